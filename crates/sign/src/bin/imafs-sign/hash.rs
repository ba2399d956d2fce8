//! `imafs-sign hash`

use ::sign::{
    cli::HashArgs,
    labels::{LabelOptions, Labelling},
};

use serde_json::json;

use crate::{
    Ending,
    output::{self, Results},
    sign,
    tree::{self, Names, Outcome},
};

pub(crate) fn run(args: &HashArgs) -> anyhow::Result<Ending> {
    if args.write {
        let options = LabelOptions { algo: args.hash_algo, force: args.force, dry_run: args.dry_run };
        return sign::label_all(&args.paths, Labelling::Hash, options, args.output);
    }
    let stop = tree::stop_on_signals()?;
    let progress = output::progress("hashing");
    let mut results = Results::new(&progress);
    let mut failed = false;
    let interrupted = tree::for_each_file(
        &args.paths,
        Names::First,
        &stop,
        &progress,
        |file| file.collect(args.hash_algo, &stop),
        |path, outcome| {
            match outcome {
                Outcome::Done((digest, _)) if args.output.json => {
                    results.json(&output::about(path, "hashed", json!({ "digest": digest.to_string() })))?;
                }
                Outcome::Done((digest, _)) => {
                    results.line(&format!("{digest}  {}", output::show_path(path)))?;
                }
                Outcome::Skipped(_) => {}
                Outcome::Failed(error) => {
                    failed = true;
                    output::warn(&format!(
                        "cannot hash {}: {}",
                        output::show_path(path),
                        output::describe(&error)
                    ));
                }
            }
            Ok(())
        },
    )?;
    results.finish()?;
    Ok(if failed || interrupted { Ending::Incomplete } else { Ending::Done })
}
