//! Whose the control directory is.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ValueError;

/// A user and a group, by number as the host sees them: `UID:GID`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[0-9]+:[0-9]+$"))]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl FromStr for Owner {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        // The highest number is nobody's: chown(2) takes it for "leave it".
        let number = |text: &str| text.parse().ok().filter(|number| *number != u32::MAX);
        let ids = text.split_once(':').and_then(|(uid, gid)| Some((number(uid)?, number(gid)?)));
        let (uid, gid) = ids
            .ok_or_else(|| ValueError::new(format!("'{text}' names no owner: write UID:GID, two numbers")))?;
        Ok(Self { uid, gid })
    }
}

impl TryFrom<String> for Owner {
    type Error = ValueError;
    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> Self {
        owner.to_string()
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_two_numbers() {
        assert_eq!("100000:5".parse(), Ok(Owner { uid: 100_000, gid: 5 }));
        assert_eq!(Owner { uid: 7, gid: 8 }.to_string(), "7:8");
        for text in ["", "0", "0:", ":0", "root:root", "-1:0", "0:0:0", "4294967295:0", "1:4294967296"] {
            assert!(text.parse::<Owner>().is_err(), "{text}");
        }
    }
}
