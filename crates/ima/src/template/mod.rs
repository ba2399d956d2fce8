//! Measurement templates: which fields an entry has, what they hold, how they are hashed and shown.
//!
//! [`Template`] names the fields, [`Event`] is what happened, [`Template::entry`] makes the [`Entry`] of it.
//!
//! Source: security/integrity/ima/ima_template.c and ima_template_lib.c, Linux 6.1.

mod entry;
mod event;
mod field;

use std::{fmt, sync::Arc};

pub use entry::{Entry, Fields};
pub use event::{DigestKind, Event, FileAttrs, Modsig};
pub use field::{Field, TemplateError};

use crate::PcrIndex;

/// `IMA_TEMPLATE_NUM_FIELDS_MAX`: the most fields a template may have.
const MAX_FIELDS: usize = 15;

/// The templates with a name of their own: (name, format, fields).
///
/// Kernel 6.1's; a test holds formats and fields together. The order is the kernel's.
const BUILTIN: &[Builtin] = &[
    Builtin { name: "ima", format: "d|n", fields: &[Field::D, Field::N] },
    Builtin { name: "ima-ng", format: "d-ng|n-ng", fields: &[Field::DNg, Field::NNg] },
    Builtin { name: "ima-sig", format: "d-ng|n-ng|sig", fields: &[Field::DNg, Field::NNg, Field::Sig] },
    Builtin { name: "ima-ngv2", format: "d-ngv2|n-ng", fields: &[Field::DNgV2, Field::NNg] },
    Builtin { name: "ima-sigv2", format: "d-ngv2|n-ng|sig", fields: &[Field::DNgV2, Field::NNg, Field::Sig] },
    BUFFER,
    Builtin {
        name: "ima-modsig",
        format: "d-ng|n-ng|sig|d-modsig|modsig",
        fields: &[Field::DNg, Field::NNg, Field::Sig, Field::DModsig, Field::Modsig],
    },
    Builtin {
        name: "evm-sig",
        format: "d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode",
        fields: &[
            Field::DNg,
            Field::NNg,
            Field::EvmSig,
            Field::XattrNames,
            Field::XattrLengths,
            Field::XattrValues,
            Field::IUid,
            Field::IGid,
            Field::IMode,
        ],
    },
];

/// The template of buffer events.
const BUFFER: Builtin =
    Builtin { name: "ima-buf", format: "d-ng|n-ng|buf", fields: &[Field::DNg, Field::NNg, Field::Buf] };

/// A row of [`BUILTIN`].
#[derive(Debug)]
struct Builtin {
    name: &'static str,
    format: &'static str,
    fields: &'static [Field],
}

/// A measurement template. Cheap to clone.
#[derive(Clone)]
pub struct Template(Repr);

#[derive(Clone)]
enum Repr {
    Builtin(&'static Builtin),
    Custom(Arc<Custom>),
}

/// A template given by its format alone.
struct Custom {
    format: String,
    fields: Vec<Field>,
}

impl Template {
    /// The built-in template of this name (`ima-sig`).
    pub fn named(name: &str) -> Option<Self> {
        BUILTIN.iter().find(|builtin| builtin.name == name).map(|builtin| Self(Repr::Builtin(builtin)))
    }

    /// The built-in template of this name, or with exactly this format: what a rule's `template=` may say.
    ///
    /// Source: `lookup_template_desc`.
    pub fn lookup(name_or_format: &str) -> Option<Self> {
        Self::named(name_or_format).or_else(|| {
            let found = BUILTIN.iter().find(|builtin| builtin.format == name_or_format)?;
            Some(Self(Repr::Builtin(found)))
        })
    }

    /// `ima-buf`, the template of buffers, whatever the default is.
    pub const fn buffer() -> Self {
        Self(Repr::Builtin(&BUFFER))
    }

    /// A template without a name, by its format: field ids separated by `|`, 1 to 15 of them.
    ///
    /// Even the format of a built-in template gives a custom one, which lists show by its format. `None` for unknown
    /// or empty ids and for too many of them.
    ///
    /// Source: `ima_template_fmt_setup`, `template_desc_init_fields`.
    pub fn from_format(format: &str) -> Option<Self> {
        // Counted before anything is collected, so that a hostile format allocates nothing.
        if format.split('|').take(MAX_FIELDS + 1).count() > MAX_FIELDS {
            return None;
        }
        let fields = format.split('|').map(Field::from_id).collect::<Option<Vec<_>>>()?;
        Some(Self(Repr::Custom(Arc::new(Custom { format: format.to_owned(), fields }))))
    }

    /// The template a measurement list means by this text: a built-in name, else a custom format.
    pub fn listed(text: &str) -> Option<Self> {
        Self::named(text).or_else(|| Self::from_format(text))
    }

    /// The name; empty for a custom format.
    pub fn name(&self) -> &str {
        match &self.0 {
            Repr::Builtin(builtin) => builtin.name,
            Repr::Custom(_) => "",
        }
    }

    /// The field ids, separated by `|`.
    pub fn format(&self) -> &str {
        match &self.0 {
            Repr::Builtin(builtin) => builtin.format,
            Repr::Custom(custom) => &custom.format,
        }
    }

    /// What stands in a measurement list: the name, or for a custom template the format.
    pub fn listed_name(&self) -> &str {
        match &self.0 {
            Repr::Builtin(builtin) => builtin.name,
            Repr::Custom(custom) => &custom.format,
        }
    }

    /// The fields in their order.
    pub fn fields(&self) -> &[Field] {
        match &self.0 {
            Repr::Builtin(builtin) => builtin.fields,
            Repr::Custom(custom) => &custom.fields,
        }
    }

    /// Whether this is the original template `ima`, which is hashed and stored without field lengths.
    ///
    /// Decided by the name, so a custom `d|n` is not.
    pub fn is_legacy_ima(&self) -> bool {
        self.name() == "ima"
    }

    /// The entry that records `event` in PCR `pcr`.
    ///
    /// A kernel always records violations in [`PcrIndex::DEFAULT`] with the default template, whatever the rule
    /// says; choosing both is the caller's part.
    ///
    /// # Errors
    /// [`TemplateError`] where a field cannot be made of the event.
    pub fn entry(&self, pcr: PcrIndex, event: &Event<'_>) -> Result<Entry, TemplateError> {
        let mut data = Vec::with_capacity(128 + event.name.len());
        for field in self.fields() {
            entry::push_field(&mut data, *field, &field.encode(event)?)?;
        }
        Ok(Entry::from_parts(pcr, self.clone(), data, event.violation))
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        (self.name(), self.format()) == (other.name(), other.format())
    }
}

impl Eq for Template {}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({})", self.listed_name())
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.listed_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builtin_formats_name_their_fields() {
        for builtin in BUILTIN {
            let custom = Template::from_format(builtin.format).unwrap();
            assert_eq!(custom.fields(), builtin.fields, "{}", builtin.name);
            assert_eq!((custom.name(), custom.listed_name()), ("", builtin.format));
            let named = Template::named(builtin.name).unwrap();
            assert_eq!(named.listed_name(), builtin.name);
            assert_eq!(Template::lookup(builtin.format), Some(named));
        }
    }

    #[test]
    fn formats_are_bounded_and_known() {
        let fifteen = ["d-ng"; 15].join("|");
        assert_eq!(Template::from_format(&fifteen).unwrap().fields().len(), 15);
        for refused in ["", "|", "d-ng|", "|d-ng", "d-ng n-ng", "D-NG", "ima-ng", &format!("{fifteen}|sig")] {
            assert_eq!(Template::from_format(refused), None, "{refused:?}");
        }
    }

    #[test]
    fn only_the_name_makes_a_legacy_template() {
        assert!(Template::named("ima").unwrap().is_legacy_ima());
        assert!(!Template::from_format("d|n").unwrap().is_legacy_ima());
        assert_eq!(Template::named(""), None);
        assert_eq!(Template::lookup("d-ng|sig"), None);
    }
}
