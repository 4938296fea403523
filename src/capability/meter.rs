//! What runs spend while they spend it, against what they may: a meter for each run, an account for each of its attempts,
//! a charge for each message under way. What is under way counts, so that two messages at once cannot both use the rest.

use crate::step::{Spent, in_usd};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// What the attempts of a run spend together.
#[derive(Debug, Default)]
pub struct Meter(Mutex<Totals>);

#[derive(Debug, Default)]
struct Totals {
    /// Millionths of a US dollar that may be spent in all.
    limit: Option<u64>,
    /// Millionths of a US dollar, of messages under way included.
    spent: u64,
}

impl Meter {
    /// Bounds what may be spent in all, in millionths of a US dollar. What is spent already stays so.
    pub fn limit(&self, micro_usd: Option<u64>) {
        self.lock().limit = micro_usd;
    }

    /// Learns what the journal knows: attempts of other processes have spent too.
    pub fn catch_up(&self, micro_usd: u64) {
        let mut totals = self.lock();
        totals.spent = totals.spent.max(micro_usd);
    }

    /// Whether there is a bound.
    pub fn is_limited(&self) -> bool {
        self.lock().limit.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Totals> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one attempt spends. Closed with it: nothing that it left behind can spend any more.
pub struct Account {
    meter: Arc<Meter>,
    own: Mutex<Own>,
    book: Box<dyn Fn(Spent) + Send + Sync>,
    /// The sentence that says which budget was exceeded, once one was.
    overdrawn: watch::Sender<Option<String>>,
}

#[derive(Default)]
struct Own {
    limit: Option<u64>,
    /// What is billed.
    spent: Spent,
    /// Millionths of a US dollar, of messages under way included.
    used: u64,
    /// Messages under way, with what each has cost so far.
    open: BTreeMap<u64, Spent>,
    begun: u64,
    closed: bool,
}

impl Account {
    /// An account of an attempt; `book` hears of each message that has ended, or was cut.
    pub fn new(meter: Arc<Meter>, book: impl Fn(Spent) + Send + Sync + 'static) -> Self {
        let own = Mutex::default();
        Self { meter, own, book: Box::new(book), overdrawn: watch::Sender::new(None) }
    }

    /// Bounds what the attempt itself may spend, in millionths of a US dollar.
    pub fn limit(&self, micro_usd: u64) {
        self.lock().limit = Some(micro_usd);
    }

    /// Millionths of a US dollar that may still be spent, where there is a limit.
    pub fn left(&self) -> Option<u64> {
        let own = self.lock();
        let totals = self.meter.lock();
        let left = |limit: Option<u64>, spent: u64| limit.map(|limit| limit.saturating_sub(spent));
        [left(own.limit, own.used), left(totals.limit, totals.spent)].into_iter().flatten().min()
    }

    /// What the attempt has been billed.
    pub fn spent(&self) -> Spent {
        self.lock().spent
    }

    /// Ends it: messages under way are billed as far as they have come, and none begins any more.
    pub fn close(&self) {
        let open = {
            let mut own = self.lock();
            own.closed = true;
            std::mem::take(&mut own.open)
        };
        open.into_values().for_each(|spent| self.bill(spent));
    }

    fn bill(&self, spent: Spent) {
        if spent != Spent::default() {
            self.lock().spent.add(spent);
            (self.book)(spent);
        }
    }

    /// Whether its attempt is over.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Begins a message. The error says that nothing is left, and then the account is overdrawn, or that it is closed.
    pub fn begin(self: &Arc<Self>) -> Result<Charge, String> {
        if self.left() == Some(0) {
            return Err(self.overdraw());
        }
        let mut own = self.lock();
        if own.closed {
            return Err("the step that opened this gateway has ended".into());
        }
        let number = own.begun;
        own.begun += 1;
        own.open.insert(number, Spent::default());
        Ok(Charge { account: self.clone(), number })
    }

    /// Waits until a message was refused or cut, and says which budget that held to.
    pub async fn overdrawn(&self) -> String {
        let mut seen = self.overdrawn.subscribe();
        match seen.wait_for(Option::is_some).await.map(|sentence| sentence.clone()) {
            Ok(Some(sentence)) => sentence,
            // The sender is this account itself.
            _ => std::future::pending().await,
        }
    }

    fn overdraw(&self) -> String {
        let sentence = {
            let own = self.lock();
            match own.limit.filter(|limit| own.used >= *limit) {
                Some(limit) => format!(
                    "the step has used up its budget of {}: raise `max_budget_usd` or ask for less",
                    in_usd(limit)
                ),
                None => format!(
                    "the run has used up its budget of {}: raise `budget` in the file and `harvest upgrade` the run, or ask for less",
                    in_usd(self.meter.lock().limit.unwrap_or_default())
                ),
            }
        };
        self.overdrawn.send_replace(Some(sentence.clone()));
        sentence
    }

    fn lock(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("spent", &self.spent()).finish_non_exhaustive()
    }
}

/// A message under way. What it has cost is billed when this is dropped, or its account closed.
#[derive(Debug)]
pub struct Charge {
    account: Arc<Account>,
    number: u64,
}

impl Charge {
    /// Says what the message has cost so far.
    pub fn update(&mut self, so_far: Spent) {
        let mut own = self.account.lock();
        let Some(open) = own.open.get_mut(&self.number) else { return };
        let (old, new) = (std::mem::replace(open, so_far).micro_usd, so_far.micro_usd);
        own.used = own.used.saturating_sub(old).saturating_add(new);
        let mut totals = self.account.meter.lock();
        totals.spent = totals.spent.saturating_sub(old).saturating_add(new);
    }

    /// Whether the message must not go on. The error says which budget is used up, and then the account is overdrawn, or
    /// that it is closed.
    pub fn check(&self) -> Result<(), String> {
        if self.account.is_closed() {
            return Err("the step that opened this gateway has ended".into());
        }
        match self.account.left() {
            Some(0) => Err(self.account.overdraw()),
            _ => Ok(()),
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let open = self.account.lock().open.remove(&self.number);
        if let Some(spent) = open {
            self.account.bill(spent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usd(micro_usd: u64) -> Spent {
        Spent { micro_usd, ..Spent::default() }
    }

    fn account(meter: &Arc<Meter>) -> (Arc<Account>, Arc<Mutex<Spent>>) {
        let booked = Arc::new(Mutex::new(Spent::default()));
        let book = booked.clone();
        let account = Account::new(meter.clone(), move |spent| book.lock().unwrap().add(spent));
        (Arc::new(account), booked)
    }

    #[test]
    fn two_messages_at_once_share_what_is_left() {
        let meter = Arc::new(Meter::default());
        meter.limit(Some(100));
        let (one, _) = account(&meter);
        let (other, _) = account(&meter);
        let (mut first, mut second) = (one.begin().unwrap(), other.begin().unwrap());
        first.update(usd(60));
        assert_eq!((first.check(), one.left(), other.left()), (Ok(()), Some(40), Some(40)));
        second.update(usd(40));
        assert!(second.check().unwrap_err().contains("the run has used up its budget of 0.0001 USD"));
        assert!(one.begin().is_err());
    }

    #[test]
    fn a_step_has_a_limit_of_its_own_and_a_run_learns_what_others_spent() {
        let meter = Arc::new(Meter::default());
        meter.limit(Some(1_000_000));
        meter.catch_up(900_000);
        let (account, _) = account(&meter);
        assert_eq!(account.left(), Some(100_000));
        account.limit(10);
        let mut charge = account.begin().unwrap();
        charge.update(usd(11));
        assert!(charge.check().unwrap_err().contains("raise `max_budget_usd`"));
    }

    #[test]
    fn what_is_under_way_when_a_step_ends_is_billed_once() {
        let (account, booked) = account(&Arc::new(Meter::default()));
        let mut charge = account.begin().unwrap();
        charge.update(usd(7));
        account.close();
        assert_eq!((booked.lock().unwrap().micro_usd, charge.check().is_err()), (7, true));
        charge.update(usd(9));
        drop(charge);
        assert_eq!(booked.lock().unwrap().micro_usd, 7);
        assert!(account.begin().is_err());
    }

    proptest! {
        /// Whatever the estimates were on the way, what is billed is what each message said last, and that is what counts.
        #[test]
        fn what_is_booked_is_what_was_said_last(messages in prop::collection::vec(prop::collection::vec(0_u64..1_000, 0..5), 0..8)) {
            let meter = Arc::new(Meter::default());
            let (account, booked) = account(&meter);
            let mut charges = Vec::new();
            for said in &messages {
                let mut charge = account.begin().unwrap();
                said.iter().for_each(|amount| charge.update(usd(*amount)));
                charges.push(charge);
            }
            let expected: u64 = messages.iter().filter_map(|said| said.last()).sum();
            prop_assert_eq!(meter.lock().spent, expected);
            drop(charges);
            prop_assert_eq!(booked.lock().unwrap().micro_usd, expected);
            prop_assert_eq!((account.spent().micro_usd, meter.lock().spent), (expected, expected));
        }
    }
}
