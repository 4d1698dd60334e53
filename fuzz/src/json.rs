//! Any JSON value.

use arbitrary::Arbitrary;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

#[derive(Debug, Arbitrary)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(i64),
    Text(String),
    List(Vec<Json>),
    Map(Vec<(String, Json)>),
}

impl Json {
    fn value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(it) => it.into(),
            Self::Number(it) => it.into(),
            Self::Text(it) => it.into(),
            Self::List(all) => all.into_iter().map(Self::value).collect(),
            Self::Map(all) => all
                .into_iter()
                .map(|(name, it)| (name, it.value()))
                .collect(),
        }
    }

    pub(crate) fn raw(self) -> Box<RawValue> {
        to_raw_value(&self.value()).expect("a value is JSON")
    }

    /// As an id: null is none.
    pub(crate) fn id(self) -> Option<Box<RawValue>> {
        (!matches!(self, Self::Null)).then(|| self.raw())
    }
}
