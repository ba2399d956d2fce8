//! Gathers the tokens of one line into a rule, checking each as it comes.
//!
//! The order of checks is the kernel's wherever it shows: a repeated id is refused before its number
//! is read, and options that depend on what stood before them look at what has been gathered so far.
//! The values of conditions are read in `conditions`, those of options in `options`.

mod conditions;
mod options;

use crate::condition::{Conditions, Whose};
use crate::error::{Reason, RuleError};
use crate::parse::{ParseOptions, error, note};
use crate::rule::{Options, Rule, RuleFlags};
use crate::token::{Operator, Token, key_and_value};
use crate::validate::{Fault, Parts, validate};
use crate::vocabulary::Action;

/// A rule in the making.
#[derive(Debug)]
pub(crate) struct Builder<'l> {
    options: ParseOptions,
    action: Option<(Action, Token<'l>)>,
    func: Option<Token<'l>>,
    when: Conditions,
    how: Options,
    parts: Vec<(Parts, Token<'l>)>,
}

impl<'l> Builder<'l> {
    pub(crate) fn new(options: ParseOptions) -> Self {
        Self {
            options,
            action: None,
            func: None,
            when: Conditions::default(),
            how: Options::default(),
            parts: Vec::new(),
        }
    }

    /// Takes one token, whose text is `word`.
    pub(crate) fn add(&mut self, word: &str, token: Token<'l>, record: &mut Vec<u8>) -> Result<(), Reason> {
        if let Some(action) = Action::from_name(word) {
            note(record, &[b"action=", token.bytes]);
            return self.set_action(action, token);
        }
        if word == "permit_directio" {
            self.how.flags |= RuleFlags::PERMIT_DIRECTIO;
            self.parts.push((Parts::DIRECTIO, token));
            return Ok(());
        }
        let known = key_and_value(word).filter(|(key, operator, _)| takes(key, *operator));
        let Some((key, operator, value)) = known else {
            note(record, &[b"UNKNOWN=", token.bytes]);
            return Err(Reason::UnknownWord);
        };
        if value.is_empty() {
            note(record, &[b"UNKNOWN=", token.bytes]);
            return Err(Reason::MissingValue);
        }
        note(record, &[token.bytes]);
        if key == "func" {
            return self.set_func(value, token);
        }
        let part = self.set(key, operator, value)?;
        self.parts.push((part, token));
        Ok(())
    }

    /// The rule, if the parts gathered make one.
    pub(crate) fn finish(self) -> Result<Rule, RuleError> {
        let Some((action, action_token)) = self.action else {
            let reason = Reason::NoAction;
            return Err(RuleError { column: 1, token: String::new(), errno: reason.errno(), reason });
        };
        let parts = self.parts.iter().fold(Parts::empty(), |all, (part, _)| all | *part);
        validate(action, self.when.func, parts).map_err(|fault| match fault {
            Fault::Part(at_fault, reason) => {
                let found = self.parts.iter().find(|(part, _)| part.intersects(at_fault));
                error(found.map_or(action_token, |(_, token)| *token), reason)
            }
            Fault::Func(reason) => error(self.func.unwrap_or(action_token), reason),
            Fault::Action(reason) => error(action_token, reason),
        })?;
        Ok(Rule { action, when: self.when, how: self.how })
    }

    /// Reads one condition or option and says what kind of part it is.
    fn set(&mut self, key: &str, operator: Operator, value: &str) -> Result<Parts, Reason> {
        match key {
            "mask" => self.set_mask(value),
            "fsmagic" => self.set_fsmagic(value),
            "fsname" => self.set_fsname(value),
            "fs_subtype" => self.set_fs_subtype(value),
            "fsuuid" => self.set_fsuuid(value),
            "uid" => self.set_user(Whose::Real, operator, value),
            "euid" => self.set_user(Whose::Effective, operator, value),
            "gid" => self.set_group(Whose::Real, operator, value),
            "egid" => self.set_group(Whose::Effective, operator, value),
            "fowner" => self.set_fowner(operator, value),
            "fgroup" => self.set_fgroup(operator, value),
            "keyrings" => self.set_keyrings(value),
            "label" => self.set_labels(value),
            "path" => self.set_path(value),
            "digest" => self.set_digests(value),
            "pcr" => self.set_pcr(value),
            "template" => self.set_template(value),
            "appraise_type" => self.set_appraise_type(value),
            "appraise_flag" => self.set_appraise_flag(),
            "appraise_algos" => self.set_appraise_algos(value),
            "digest_type" => self.set_digest_type(value),
            _ => Err(Reason::SecurityModule),
        }
    }

    fn has(&self, part: Parts) -> bool {
        self.parts.iter().any(|(found, _)| found.intersects(part))
    }

    /// Refuses a part that stands already.
    fn first(&self, part: Parts) -> Result<Parts, Reason> {
        if self.has(part) { Err(Reason::Repeated) } else { Ok(part) }
    }

    fn extension(&self) -> Result<(), Reason> {
        if self.options.kernel_only { Err(Reason::Extension) } else { Ok(()) }
    }
}

/// Whether a key exists and takes this operator.
fn takes(key: &str, operator: Operator) -> bool {
    match key {
        "uid" | "euid" | "gid" | "egid" | "fowner" | "fgroup" => true,
        "func" | "mask" | "fsmagic" | "fsname" | "fs_subtype" | "fsuuid" | "keyrings" | "label" | "path"
        | "digest" | "pcr" | "template" | "appraise_type" | "appraise_flag" | "appraise_algos"
        | "digest_type" | "obj_user" | "obj_role" | "obj_type" | "subj_user" | "subj_role" | "subj_type" => {
            operator == Operator::Equal
        }
        _ => false,
    }
}
