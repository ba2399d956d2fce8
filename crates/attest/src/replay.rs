//! How far a list replays to the registers of a quote.
//!
//! One pass over the list for each bank, side by side; a pass holds one entry at a time. Entries beyond those that a
//! quote covers are no failure here: a list may have grown since. Where the registers are those of the quote is found
//! by comparing after each entry, and since a register never comes back to an earlier value there is one such place.

use std::collections::BTreeMap;

use ima::{Digest, HashAlgo, PcrIndex, Pcrs, UnavailableAlgo};

use crate::list::lines;

/// One bank's replay.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) bank: HashAlgo,
    /// Entries after which every register is as it was quoted; `None` where there is no such place.
    pub(crate) reached: Option<usize>,
    /// The registers there, or at the end of the list.
    pub(crate) values: Vec<(PcrIndex, Digest)>,
}

/// Replays `list` in each bank from zero to what was quoted.
///
/// # Errors
/// [`UnavailableAlgo`] for a bank that cannot be computed.
pub(crate) fn replay(
    list: &[u8],
    quoted: &BTreeMap<HashAlgo, BTreeMap<PcrIndex, Digest>>,
) -> Result<Vec<Replay>, UnavailableAlgo> {
    let banks: Vec<_> =
        quoted.iter().map(|(bank, targets)| Ok((Pcrs::new(*bank)?, targets))).collect::<Result<_, _>>()?;
    Ok(std::thread::scope(|scope| {
        let threads: Vec<_> = banks
            .into_iter()
            .map(|(pcrs, targets)| (pcrs.clone(), targets, scope.spawn(move || one(list, pcrs, targets))))
            .collect();
        threads
            .into_iter()
            .map(|(pcrs, targets, thread)| {
                // A thread that ended without an answer has reached nothing.
                thread.join().unwrap_or_else(|_| Replay {
                    bank: pcrs.algo(),
                    reached: None,
                    values: targets.keys().map(|pcr| (*pcr, pcrs.value(*pcr))).collect(),
                })
            })
            .collect()
    }))
}

fn one(list: &[u8], mut pcrs: Pcrs, targets: &BTreeMap<PcrIndex, Digest>) -> Replay {
    let bank = pcrs.algo();
    let values = |pcrs: &Pcrs| targets.keys().map(|pcr| (*pcr, pcrs.value(*pcr))).collect::<Vec<_>>();
    let mut unequal = targets.iter().filter(|(pcr, value)| pcrs.value(**pcr) != **value).count();
    let mut reached = (unequal == 0).then(|| (0, values(&pcrs)));
    for (index, line) in lines(list).map_while(Result::ok).enumerate() {
        let pcr = line.pcr();
        // One for another register is refused for that elsewhere.
        let Some(target) = targets.get(&pcr) else { continue };
        let before = pcrs.value(pcr) == *target;
        line.extend(&mut pcrs);
        match (before, pcrs.value(pcr) == *target) {
            (true, false) => unequal += 1,
            (false, true) => unequal -= 1,
            (true, true) | (false, false) => {}
        }
        if unequal == 0 {
            reached = Some((index + 1, values(&pcrs)));
        }
    }
    let (reached, values) = reached.map_or((None, values(&pcrs)), |(count, at)| (Some(count), at));
    Replay { bank, reached, values }
}
