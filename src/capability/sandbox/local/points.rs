//! Places between two steps at which tests kill the process or cut the power. In the product they are nothing.

/// Says that a place has been reached.
#[cfg(not(test))]
pub(super) fn reach(_: &'static str) {}

#[cfg(test)]
pub(super) use armed::{arm, reach};

#[cfg(test)]
mod armed {
    use std::cell::RefCell;

    type Trap = Box<dyn Fn(&'static str)>;

    thread_local! {
        static TRAP: RefCell<Option<Trap>> = const { RefCell::new(None) };
    }

    /// Calls `trap` with each place that this thread reaches from now on.
    pub(in super::super) fn arm(trap: impl Fn(&'static str) + 'static) {
        TRAP.with(|place| *place.borrow_mut() = Some(Box::new(trap)));
    }

    pub(in super::super) fn reach(place: &'static str) {
        TRAP.with(|trap| {
            if let Some(trap) = &*trap.borrow() {
                trap(place);
            }
        });
    }
}
