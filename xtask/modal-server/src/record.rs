//! Every call as it came, so that two clients can be compared field by field.

use crate::proto::DESCRIPTORS;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{DescriptorPool, DynamicMessage, MapKey, MethodDescriptor};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
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
        calls.push(Recorded { rpc: rpc.into(), metadata: metadata.collect(), messages: Vec::new() });
        calls.len() - 1
    }

    /// Notes a message of a call.
    pub(crate) fn message(&self, call: usize, method: &Method, message: &[u8]) {
        let value = method.value(message);
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(call) = calls.get_mut(call) {
            call.messages.push(value);
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

    fn value(&self, message: &[u8]) -> Value {
        match DynamicMessage::decode(self.0.input(), message) {
            Ok(message) => fields(&message),
            Err(error) => json!({ "undecodable": error.to_string() }),
        }
    }
}

fn fields(message: &DynamicMessage) -> Value {
    let mut fields: Map<String, Value> = message
        .fields()
        .map(|(field, value)| (field.name().to_owned(), json(&field.kind(), value)))
        .collect();
    for unknown in message.unknown_fields() {
        let mut bytes = Vec::new();
        unknown.encode(&mut bytes);
        fields.insert(format!("#{}", unknown.number()), hex::encode(bytes).into());
    }
    Value::Object(fields)
}

fn json(kind: &prost_reflect::Kind, value: &prost_reflect::Value) -> Value {
    use prost_reflect::{Kind, Value as Field};
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
        Field::EnumNumber(number) => match kind {
            Kind::Enum(kind) => {
                kind.get_value(*number).map_or((*number).into(), |value| value.name().to_owned().into())
            }
            _ => (*number).into(),
        },
        Field::Message(value) => fields(value),
        Field::List(values) => values.iter().map(|value| json(kind, value)).collect(),
        Field::Map(values) => {
            let entry = match kind {
                Kind::Message(entry) => entry.map_entry_value_field().kind(),
                other => other.clone(),
            };
            let sorted: BTreeMap<String, Value> =
                values.iter().map(|(key, value)| (name(key), json(&entry, value))).collect();
            sorted.into_iter().collect::<Map<_, _>>().into()
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
