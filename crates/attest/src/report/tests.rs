//! The page as text; that a browser shows it is for `integration/tests/report.rs`.

use super::*;
use crate::verdict::{EntryCause, FORMAT, KeyFacts, QuoteFacts, Reason, ReasonKind};

pub(super) fn entry(index: u64, path: &str, cause: EntryCause) -> EntryFacts {
    EntryFacts {
        index,
        ns: None,
        pcr: 10,
        template: "ima-sig".to_owned(),
        digest: Some("sha256:00".to_owned()),
        path: path.to_owned(),
        path_hex: None,
        keyid: None,
        verdict: cause.verdict(),
        cause,
    }
}

fn verdict(entries: Vec<EntryFacts>) -> Verdict {
    let count = |verdict| entries.iter().filter(|entry| entry.verdict == verdict).count() as u64;
    let refused = count(EntryVerdict::Refused);
    Verdict {
        format: FORMAT,
        verdict: if refused == 0 { Overall::Trusted } else { Overall::Refused },
        reasons: (refused > 0)
            .then(|| Reason { kind: ReasonKind::Unsigned, text: "a file is unsigned".into(), entry: Some(1) })
            .into_iter()
            .collect(),
        checks: Vec::new(),
        key: KeyFacts {
            name: "000b".into(),
            qualified_name: "000b".into(),
            hierarchy: None,
            kind: "ECDSA P-256".into(),
            certificate: None,
        },
        quote: QuoteFacts {
            nonce: "00".into(),
            clock: 1,
            reset_count: 0,
            restart_count: 0,
            clock_is_safe: true,
            firmware_version: "0".into(),
            pcr_digest: "00".into(),
        },
        registers: Vec::new(),
        counts: Counts {
            entries: entries.len() as u64,
            accepted: count(EntryVerdict::Accepted),
            refused,
            ..Counts::default()
        },
        entries,
        entries_left_out: 0,
    }
}

#[test]
fn hostile_names_are_text_and_nothing_else() {
    let name = "/<script>alert(1)</script>\"'&\u{202e}";
    let page = page(
        &verdict(vec![entry(0, "/a", EntryCause::Listed), entry(1, name, EntryCause::Unsigned)]),
        &About { evidence: name.to_owned(), ..About::default() },
    );
    assert!(!page.contains("<script") && !page.contains('\u{202e}'));
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && page.contains("\\u{202e}"));
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("url("));
}

#[test]
fn a_long_list_makes_no_endless_page() {
    let many = (0..200_000).map(|index| {
        let cause = if index % 2 == 0 { EntryCause::Listed } else { EntryCause::Unsigned };
        entry(index, &format!("/usr/share/{}/{index}", index % 100), cause)
    });
    let page = page(&verdict(many.collect()), &About::default());
    assert!(page.len() < 16 << 20, "{}", page.len());
    assert!(page.contains("data-count=\"100000\""));
}
