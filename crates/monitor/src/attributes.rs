//! What templates show of EVM: a portable signature, and the attributes it protects.
//!
//! Read when an entry is made, and only for a template that has such a field.

use appraise::{LabelPlace, Labels};
use ima::Template;
use ima::template::Field;

use crate::object::Object;

/// See the module's text. Empty where the template asks for nothing, and where nothing can be read: the kernel leaves
/// the field empty then.
#[derive(Debug, Default)]
pub(crate) struct Attributes {
    pub evm: Option<Vec<u8>>,
    protected: Vec<(&'static str, Vec<u8>)>,
}

impl Attributes {
    /// Those of an object, whose label is at `place`, for an entry of this template.
    pub fn of(object: &dyn Object, template: &Template, labels: &Labels, place: LabelPlace) -> Self {
        let asks = |wanted: &[Field]| template.fields().iter().any(|field| wanted.contains(field));
        let evm = asks(&[Field::Sig, Field::EvmSig]);
        let protected = asks(&[Field::XattrNames, Field::XattrLengths, Field::XattrValues]);
        let Ok(fd) = object.stat_fd() else { return Self::default() };
        Self {
            evm: if evm { appraise::read_evm(&fd) } else { None },
            protected: if protected { labels.read_protected(place, &fd) } else { Vec::new() },
        }
    }

    /// Names and values, as an event takes them.
    pub fn xattrs(&self) -> Vec<(&[u8], &[u8])> {
        self.protected.iter().map(|(name, value)| (name.as_bytes(), value.as_slice())).collect()
    }
}
