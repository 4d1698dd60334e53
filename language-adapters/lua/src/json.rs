//! JSON in and out. A table is a list or an object by its keys alone, and an empty one an
//! object, unless its metatable says that it is a list: those that came as lists have it.

use std::fmt;

use mlua::{Lua, Table, Value};
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

/// As deep as JSON is read here; tables that contain themselves go deeper.
const MOST_DEPTH: usize = 127;

/// Turns values of one state into text and back.
#[derive(Clone)]
pub(crate) struct Json {
    /// The metatable of lists.
    list: Table,
}

impl Json {
    pub(crate) fn new(lua: &Lua) -> mlua::Result<Self> {
        Ok(Self {
            list: lua.create_table()?,
        })
    }

    pub(crate) fn list(&self) -> &Table {
        &self.list
    }

    /// The value that a text stands for; `null` within it is the light userdata NULL,
    /// because a table cannot hold `nil`.
    ///
    /// # Errors
    /// It is not JSON, or too much for the memory that is left.
    pub(crate) fn decode(&self, lua: &Lua, text: &[u8]) -> Result<Value, serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_slice(text);
        let value = Decode { json: self, lua }.deserialize(&mut reader)?;
        reader.end()?;
        Ok(value)
    }

    /// The text of a value that is called `name` in messages.
    ///
    /// # Errors
    /// What cannot be JSON, by its path.
    pub(crate) fn encode(&self, name: &str, value: &Value) -> Result<String, String> {
        let mut encoding = Encoding {
            json: self,
            path: name.to_owned(),
            depth: 0,
            text: String::new(),
        };
        encoding.value(value)?;
        Ok(encoding.text)
    }
}

struct Encoding<'a> {
    json: &'a Json,
    /// Where in the whole the value is, as Lua would write it.
    path: String,
    depth: usize,
    text: String,
}

impl Encoding<'_> {
    fn refuse(&self, reason: impl fmt::Display) -> String {
        format!("{} {reason}, which JSON cannot hold", self.path)
    }

    /// Memory may run out here, too.
    fn unread(&self, error: &mlua::Error) -> String {
        format!("{}: {error}, on the way to JSON", self.path)
    }

    fn value(&mut self, value: &Value) -> Result<(), String> {
        match value {
            Value::Nil => self.text.push_str("null"),
            Value::LightUserData(pointer) if pointer.0.is_null() => self.text.push_str("null"),
            Value::Boolean(value) => self.text.push_str(if *value { "true" } else { "false" }),
            Value::Integer(value) => self.text.push_str(&value.to_string()),
            Value::Number(value) if value.is_finite() => {
                // Floats stay floats: 3.0 is not 3.
                self.text
                    .push_str(&serde_json::Value::from(*value).to_string());
            }
            Value::Number(value) => return Err(self.refuse(format_args!("is {value}"))),
            Value::String(value) => {
                let bytes = value.as_bytes();
                let Ok(text) = std::str::from_utf8(&bytes) else {
                    return Err(self.refuse("is not UTF-8"));
                };
                self.string(text);
            }
            Value::Table(table) => {
                if self.depth == MOST_DEPTH {
                    // Its own path would be as long as it is deep.
                    return Err(format!(
                        "{} is nested deeper than {MOST_DEPTH} or contains itself, which JSON cannot hold",
                        self.path.chars().take(40).collect::<String>()
                    ));
                }
                self.depth += 1;
                self.table(table)?;
                self.depth -= 1;
            }
            other => return Err(self.refuse(format_args!("is a {}", other.type_name()))),
        }
        Ok(())
    }

    fn string(&mut self, text: &str) {
        self.text
            .push_str(&serde_json::Value::from(text).to_string());
    }

    fn table(&mut self, table: &Table) -> Result<(), String> {
        let mut names = Vec::new();
        let mut count = 0;
        let mut largest = 0;
        // References to values are few in mlua: none is kept.
        for pair in table.pairs::<Value, Value>() {
            let (key, _) = pair.map_err(|error| self.unread(&error))?;
            match key {
                Value::Integer(index @ 1..) => {
                    count += 1;
                    largest = largest.max(index);
                }
                Value::String(name) => match name.to_str() {
                    Ok(name) => names.push(name.to_owned()),
                    Err(_) => return Err(self.refuse("has a key that is not UTF-8")),
                },
                Value::Integer(_) => return Err(self.refuse("has an index below 1")),
                other => {
                    let kind = other.type_name();
                    return Err(self.refuse(format_args!("has a {kind} as a key")));
                }
            }
        }
        let is_marked = table.metatable().is_some_and(|it| it == self.json.list);
        if count > 0 || is_marked {
            if let Some(name) = names.first() {
                return Err(self.refuse(format_args!("is a list that has the key {name:?} too")));
            }
            if largest != count {
                return Err(self.refuse(format_args!(
                    "is a list of {count} with holes in it: its last index is {largest}"
                )));
            }
            return self.items(table, count);
        }
        // The order of a table's keys depends on where they are in memory.
        names.sort_unstable();
        self.members(table, &names)
    }

    fn items(&mut self, table: &Table, count: i64) -> Result<(), String> {
        self.text.push('[');
        for index in 1..=count {
            if index > 1 {
                self.text.push(',');
            }
            self.inside(table, &Value::Integer(index), |path| {
                path.push_str(&format!("[{index}]"));
            })?;
        }
        self.text.push(']');
        Ok(())
    }

    fn members(&mut self, table: &Table, names: &[String]) -> Result<(), String> {
        self.text.push('{');
        for (number, name) in names.iter().enumerate() {
            if number > 0 {
                self.text.push(',');
            }
            self.string(name);
            self.text.push(':');
            let value = table.raw_get::<Value>(name.as_str());
            self.found(value, |path| path.push_str(&format!("[{name:?}]")))?;
        }
        self.text.push('}');
        Ok(())
    }

    fn inside(
        &mut self,
        table: &Table,
        key: &Value,
        step: impl Fn(&mut String),
    ) -> Result<(), String> {
        let value = table.raw_get::<Value>(key);
        self.found(value, step)
    }

    fn found(
        &mut self,
        value: mlua::Result<Value>,
        step: impl Fn(&mut String),
    ) -> Result<(), String> {
        let before = self.path.len();
        step(&mut self.path);
        let value = value.map_err(|error| self.unread(&error))?;
        self.value(&value)?;
        self.path.truncate(before);
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Decode<'a> {
    json: &'a Json,
    lua: &'a Lua,
}

impl<'de> DeserializeSeed<'de> for Decode<'_> {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Decode<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::NULL)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        // As Lua reads a numeral that no integer holds.
        Ok(i64::try_from(value).map_or(Value::Number(value as f64), Value::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        self.lua
            .create_string(text)
            .map(Value::String)
            .map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let table = self.lua.create_table().map_err(de::Error::custom)?;
        let mut index = 0;
        while let Some(value) = items.next_element_seed(self)? {
            index += 1;
            table.raw_set(index, value).map_err(de::Error::custom)?;
        }
        table
            .set_metatable(Some(self.json.list.clone()))
            .map_err(de::Error::custom)?;
        Ok(Value::Table(table))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let table = self.lua.create_table().map_err(de::Error::custom)?;
        while let Some(name) = members.next_key_seed(self)? {
            let value = members.next_value_seed(self)?;
            table.raw_set(name, value).map_err(de::Error::custom)?;
        }
        Ok(Value::Table(table))
    }
}
