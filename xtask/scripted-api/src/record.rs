//! Requests as they arrived, for assertions.

use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Requests kept; later ones are answered and not recorded.
const MAX_RECORDED: usize = 10_000;

/// One request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recorded {
    /// Such as `POST`.
    pub method: String,
    /// Path with its query.
    pub path: String,
    /// By lower-case name; of a repeated header, the last.
    pub headers: BTreeMap<String, String>,
    /// The body as JSON; null where there is none or it is something else.
    pub body: Value,
}

impl Recorded {
    /// Whether any string inside the body contains `text`.
    pub fn mentions(&self, text: &str) -> bool {
        mentions(&self.body, text)
    }

    /// Names of the tools that the client offers.
    pub fn tools(&self) -> Vec<&str> {
        self.body["tools"].as_array().into_iter().flatten().filter_map(|tool| tool["name"].as_str()).collect()
    }
}

fn mentions(value: &Value, text: &str) -> bool {
    match value {
        Value::String(string) => string.contains(text),
        Value::Array(items) => items.iter().any(|item| mentions(item, text)),
        Value::Object(fields) => fields.values().any(|field| mentions(field, text)),
        _ => false,
    }
}

/// All requests so far, with a way to wait for more.
#[derive(Debug, Default)]
pub(crate) struct Record {
    requests: Mutex<Vec<Recorded>>,
    arrived: Condvar,
}

impl Record {
    pub(crate) fn add(&self, request: Recorded) {
        let mut requests = self.lock();
        if requests.len() < MAX_RECORDED {
            requests.push(request);
        }
        self.arrived.notify_all();
    }

    pub(crate) fn all(&self) -> Vec<Recorded> {
        self.lock().clone()
    }

    pub(crate) fn wait(&self, limit: Duration, enough: impl Fn(&[Recorded]) -> bool) -> bool {
        let end = Instant::now() + limit;
        let mut requests = self.lock();
        while !enough(&requests) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            requests = self.arrived.wait_timeout(requests, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Recorded>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
