//! What only a journal on disk can get wrong.

use super::*;
use crate::journal::contract;

#[tokio::test]
async fn keeps_the_contract() {
    let home = tempfile::tempdir().unwrap();
    let opened = std::cell::Cell::new(0);
    contract::run(async || {
        opened.set(opened.get() + 1);
        Box::new(SqliteJournal::open(&home.path().join(opened.get().to_string())).unwrap())
            as Box<dyn Journal>
    })
    .await;
}
