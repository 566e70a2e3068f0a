//! JSON of images, read as Go's `encoding/json` reads it: that is what every other engine does, and
//! whoever reads a `"user"` otherwise runs it as root.
//!
//! Keys of structures match without regard to case, an exact one first; keys of maps as they are.
//! `null` is the zero value. Of two values of one key the last counts, but structures and maps are
//! merged, and a `null` takes back only what can be nil in Go. A string stands for a list where
//! Docker allows it. All JSON of images comes through [`from_slice`]. Source: Go
//! `encoding/json/{decode,fold}.go`; moby `api/types/strslice`.

use std::borrow::Cow;

use serde::{
    Deserialize,
    de::{
        DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::{Error, Number};

/// Most values in one text, some 40 bytes of memory each. Real ones have hundreds. More fail it.
const VALUES_MAX: usize = 32 << 10;

/// The lists that Docker also takes as one string (`strslice.StrSlice`).
const WORDS: [&str; 3] = ["Entrypoint", "Cmd", "Shell"];

/// Reads a value; bytes that are not UTF-8 become U+FFFD.
///
/// # Errors
/// Those of `serde_json`, and one for more than [`VALUES_MAX`] values.
pub(super) fn from_slice<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, Error> {
    let text = String::from_utf8_lossy(bytes);
    let mut left = VALUES_MAX;
    let mut reader = serde_json::Deserializer::from_str(&text);
    let value = Tree(&mut left).deserialize(&mut reader)?;
    reader.end()?;
    T::deserialize(value)
}

/// A value; objects as they were written.
enum Value<'de> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'de, str>),
    List(Vec<Self>),
    /// A string where a list may be.
    Word(Cow<'de, str>),
    Object(Vec<(Cow<'de, str>, Self)>),
}

/// Reads values while there is room for them.
struct Tree<'a>(&'a mut usize);

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value<'de>, D::Error> {
        let Some(left) = self.0.checked_sub(1) else {
            return Err(D::Error::custom(format!("more than {VALUES_MAX} values")));
        };
        *self.0 = left;
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value<'de>, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value<'de>, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value<'de>, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value<'de>, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(Tree(self.0))? {
            values.push(value);
        }
        Ok(Value::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key_seed(Tree(self.0))? {
            let Value::Text(key) = key else { return Err(A::Error::custom("a key is no text")) };
            entries.push((key, map.next_value_seed(Tree(self.0))?));
        }
        Ok(Value::Object(entries))
    }
}

impl<'de> Value<'de> {
    /// What Go holds after it read `self` and then `next` into the same place.
    fn then(self, next: Self) -> Self {
        match (self, next) {
            (Self::Object(mut one), Self::Object(more)) => {
                one.extend(more);
                Self::Object(one)
            }
            // Numbers, strings and truths have no nil.
            (old @ (Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::Null), Self::Null) => {
                old
            }
            (_, next) => next,
        }
    }
}

impl Value<'_> {
    /// Itself, or a string as a list of one.
    fn worded(self) -> Self {
        match self {
            Self::Text(word) => Self::Word(word),
            Self::Null
            | Self::Bool(_)
            | Self::Number(_)
            | Self::List(_)
            | Self::Word(_)
            | Self::Object(_) => self,
        }
    }
}

/// The field that a key means.
fn field_of(fields: &'static [&'static str], key: &str) -> Option<&'static str> {
    let exact = fields.iter().find(|field| **field == key);
    exact.or_else(|| fields.iter().find(|field| folded(field).eq(folded(key)))).copied()
}

/// The letters of ASCII in lower case, and the two others that Unicode folds into them.
fn folded(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().map(|c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    })
}

/// Puts a value under its key, or after what is there.
fn put<'de, K: Ord>(
    entries: &mut std::collections::BTreeMap<K, Value<'de>>,
    key: K,
    value: Value<'de>,
) {
    let value = match entries.remove(&key) {
        Some(old) => old.then(value),
        None => value,
    };
    entries.insert(key, value);
}

impl<'de> IntoDeserializer<'de, Error> for Value<'de> {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Null => visitor.visit_unit(),
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Number(value) => value.deserialize_any(visitor),
            Self::Text(Cow::Borrowed(text)) => visitor.visit_borrowed_str(text),
            Self::Text(Cow::Owned(text)) => visitor.visit_string(text),
            Self::Word(word) => {
                visitor.visit_seq(SeqDeserializer::new(core::iter::once(Self::Text(word))))
            }
            Self::List(list) => visitor.visit_seq(SeqDeserializer::new(list.into_iter())),
            Self::Object(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let mut found = std::collections::BTreeMap::new();
        match self {
            Self::Null => {}
            Self::Object(entries) => {
                for (key, value) in entries {
                    let Some(field) = field_of(fields, &key) else { continue };
                    let value = if WORDS.contains(&field) { value.worded() } else { value };
                    put(&mut found, field, value);
                }
            }
            Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::List(_) | Self::Word(_) => {
                return self.deserialize_any(visitor);
            }
        }
        // Absent and null are the same everywhere.
        found.retain(|_, value| !matches!(value, Self::Null));
        visitor.visit_map(MapDeserializer::new(found.into_iter()))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let mut found = std::collections::BTreeMap::new();
        match self {
            Self::Null => {}
            Self::Object(entries) => {
                for (key, value) in entries {
                    found.insert(key, value);
                }
            }
            Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::List(_) | Self::Word(_) => {
                return self.deserialize_any(visitor);
            }
        }
        visitor.visit_map(MapDeserializer::new(found.into_iter()))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if matches!(self, Self::Null) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let list = if matches!(self, Self::Null) { Self::List(Vec::new()) } else { self };
        list.deserialize_any(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let text = if matches!(self, Self::Null) { Self::Text(Cow::Borrowed("")) } else { self };
        text.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let number = if matches!(self, Self::Null) { Self::Number(0.into()) } else { self };
        number.deserialize_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i128 u8 u16 u32 u64 u128 f32 f64 char str bytes byte_buf unit
        unit_struct tuple tuple_struct enum identifier
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ImageConfig;

    fn read(text: &str) -> ImageConfig {
        from_slice(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn keys_match_as_they_do_in_go() {
        for text in [
            r#"{"user":"1000"}"#,
            r#"{"USER":"1000"}"#,
            r#"{"uSeR":"1000"}"#,
            "{\"u\u{17f}er\":\"1000\"}",
            r#"{"U\u017fer":"1000"}"#,
            r#"{"User":"0","user":"1000"}"#,
            r#"{"user":"0","User":"1000"}"#,
            r#"{"user":"1000","User":null}"#,
            r#"{"User":"1000","unknown":{"User":"0"}}"#,
        ] {
            assert_eq!(read(text).user, "1000", "{text}");
        }
        assert_eq!(read("{\"wor\u{212a}ingdir\":\"/x\"}").working_dir, "/x");
        // Keys of maps are content.
        let labels = read(r#"{"labels":{"a":"1","A":"2","b":null}}"#).labels.unwrap();
        let want = [("A", "2"), ("a", "1"), ("b", "")];
        assert!(labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(want), "{labels:?}");
    }

    #[test]
    fn null_is_nothing_and_the_last_value_counts() {
        let all = r#"{"User":null,"Env":null,"Entrypoint":null,"Cmd":null,"Volumes":null,
            "WorkingDir":null,"Labels":null,"StopSignal":null,"Healthcheck":null,"Shell":null}"#;
        assert_eq!(read(all), ImageConfig::default());
        let health = read(r#"{"Healthcheck":{"Test":null,"Interval":null,"Retries":3}}"#);
        assert_eq!(health.healthcheck.unwrap().retries, 3);
        assert_eq!(read(r#"{"Cmd":["a"],"cmd":["b"]}"#).cmd.unwrap(), ["b"]);
        assert_eq!(read(r#"{"Cmd":["a"],"cmd":null}"#).cmd, None);
        assert_eq!(read(r#"{"Cmd":["a",null]}"#).cmd.unwrap(), ["a", ""]);
        assert_eq!(read(r#"{"Volumes":{"/a":null,"/b":{}}}"#).volumes.unwrap().len(), 2);
        let merged = read(r#"{"Labels":{"a":"1"},"labels":{"b":"2"}}"#).labels.unwrap();
        assert_eq!(merged.len(), 2);
    }

    #[test]
    fn a_string_is_one_word_where_docker_takes_it() {
        let config = read(r#"{"Entrypoint":"/bin/a b","cmd":"c","shell":""}"#);
        assert_eq!(config.entrypoint.unwrap(), ["/bin/a b"]);
        assert_eq!(config.cmd.unwrap(), ["c"]);
        assert_eq!(config.shell.unwrap(), [""]);
        for bad in [r#"{"Env":"A=b"}"#, r#"{"Cmd":3}"#, r#"{"User":1000}"#, r#"{"Labels":[1]}"#] {
            assert!(from_slice::<ImageConfig>(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_are_counted_and_bytes_that_are_no_text_replaced() {
        let many = format!(r#"{{"x":[{}0]}}"#, "0,".repeat(VALUES_MAX));
        let error = from_slice::<ImageConfig>(many.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("more than"), "{error}");
        let config: ImageConfig = from_slice(b"{\"User\":\"a\xff\"}").unwrap();
        assert_eq!(config.user, "a\u{fffd}");
        assert!(from_slice::<ImageConfig>(b"{} {}").is_err());
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        assert!(from_slice::<ImageConfig>(deep.as_bytes()).is_err());
    }
}
