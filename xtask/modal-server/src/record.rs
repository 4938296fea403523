//! Every call as it came, so that two clients can be compared field by field.

use crate::proto::DESCRIPTORS;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MapKey, MethodDescriptor, Value as Field};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{LazyLock, Mutex, PoisonError};

/// Metadata whose values are credentials.
const SECRET: [&str; 4] =
    ["authorization", "x-modal-auth-token", "x-modal-sandbox-token", "x-modal-token-secret"];
/// What stands in their place.
const HIDDEN: &str = "***";

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).expect("the build made them"));

/// A call, refused or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Its name, such as `SandboxCreateV2`.
    pub rpc: String,
    /// Its metadata; `***` in place of credentials.
    pub metadata: BTreeMap<String, String>,
    /// The messages of the request, one but for streams: fields by name, where they are set. A field that the files in
    /// `proto/` do not have is `#` and its number, with the bytes on the wire in hexadecimal.
    pub messages: Vec<Value>,
    /// Every field that was set, by its path: `definition.resources.milli_cpu`. An entry of a list is `[]`, one of a map
    /// `{}`.
    pub fields: BTreeSet<String>,
}

/// All calls so far.
#[derive(Debug, Default)]
pub(crate) struct Record(Mutex<Vec<Recorded>>);

impl Record {
    /// Notes a call; returns its number.
    pub(crate) fn begin(&self, rpc: &str, headers: &axum::http::HeaderMap) -> usize {
        let metadata = headers.iter().map(|(name, value)| {
            let name = name.as_str();
            let value = if SECRET.contains(&name) {
                HIDDEN.into()
            } else {
                String::from_utf8_lossy(value.as_bytes())
            };
            (name.to_owned(), value.into_owned())
        });
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.push(Recorded {
            rpc: rpc.into(),
            metadata: metadata.collect(),
            messages: Vec::new(),
            fields: BTreeSet::new(),
        });
        calls.len() - 1
    }

    /// Notes a message of a call.
    pub(crate) fn message(&self, call: usize, method: &Method, message: &[u8]) {
        let mut fields = Fields::default();
        let value = match DynamicMessage::decode(method.0.input(), message) {
            Ok(message) => fields.message(&message, ""),
            Err(error) => json!({ "undecodable": error.to_string() }),
        };
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(call) = calls.get_mut(call) {
            call.messages.push(value);
            call.fields.append(&mut fields.0);
        }
    }

    /// All of them, in order of arrival.
    pub(crate) fn all(&self) -> Vec<Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What is known of a call by its path.
pub(crate) struct Method(MethodDescriptor);

impl Method {
    /// The call with this path, `/SERVICE/NAME`.
    pub(crate) fn find(path: &str) -> Option<Self> {
        let (service, name) = path.strip_prefix('/')?.split_once('/')?;
        let service = POOL.get_service_by_name(service)?;
        service.methods().find(|method| method.name() == name).map(Self)
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.0.name()
    }

    /// The service it belongs to.
    pub(crate) fn service(&self) -> String {
        self.0.parent_service().full_name().to_owned()
    }

    /// Whether its request is a stream.
    pub(crate) fn streams(&self) -> bool {
        self.0.is_client_streaming()
    }
}

/// Paths of the fields that were met.
#[derive(Default)]
struct Fields(BTreeSet<String>);

impl Fields {
    fn message(&mut self, message: &DynamicMessage, above: &str) -> Value {
        let below = |name: &str| if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") };
        let mut fields = Map::new();
        for (field, value) in message.fields() {
            let path = below(field.name());
            fields.insert(field.name().to_owned(), self.value(&field.kind(), value, &path));
            self.0.insert(path);
        }
        for unknown in message.unknown_fields() {
            let name = format!("#{}", unknown.number());
            let mut bytes = Vec::new();
            unknown.encode(&mut bytes);
            self.0.insert(below(&name));
            fields.insert(name, hex::encode(bytes).into());
        }
        Value::Object(fields)
    }

    fn value(&mut self, kind: &Kind, value: &Field, path: &str) -> Value {
        match value {
            Field::Bool(value) => (*value).into(),
            Field::I32(value) => (*value).into(),
            Field::I64(value) => (*value).into(),
            Field::U32(value) => (*value).into(),
            Field::U64(value) => (*value).into(),
            Field::F32(value) => (*value).into(),
            Field::F64(value) => (*value).into(),
            Field::String(value) => value.as_str().into(),
            Field::Bytes(value) => STANDARD.encode(value).into(),
            Field::EnumNumber(number) => {
                let named = kind.as_enum().and_then(|kind| kind.get_value(*number));
                named.map_or((*number).into(), |value| value.name().to_owned().into())
            }
            Field::Message(value) => self.message(value, path),
            Field::List(values) => {
                let path = format!("{path}[]");
                values.iter().map(|value| self.value(kind, value, &path)).collect()
            }
            Field::Map(values) => {
                let entry = kind.as_message().map(|entry| entry.map_entry_value_field().kind());
                let (entry, path) = (entry.unwrap_or(Kind::String), format!("{path}{{}}"));
                let sorted: BTreeMap<String, Value> =
                    values.iter().map(|(key, value)| (name(key), self.value(&entry, value, &path))).collect();
                sorted.into_iter().collect::<Map<_, _>>().into()
            }
        }
    }
}

fn name(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}
