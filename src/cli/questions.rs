//! Questions of a run in the foreground, asked on the terminal that it was started from.

use crate::id::StepRef;
use std::collections::VecDeque;
use std::io::{BufRead, IsTerminal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Questions that are open, and the lines that answer them.
pub(super) struct Questions {
    open: VecDeque<StepRef>,
    lines: Option<UnboundedReceiver<String>>,
    interactive: bool,
}

impl Questions {
    /// Asks only where somebody can both see the question and answer it.
    pub(super) fn new(visible: bool) -> Self {
        Self { open: VecDeque::new(), lines: None, interactive: visible && std::io::stdin().is_terminal() }
    }

    /// A step has asked. Returns how to answer here, where that is possible.
    pub(super) fn ask(&mut self, at: &StepRef) -> Option<String> {
        if !self.interactive {
            return None;
        }
        self.open.push_back(at.clone());
        // Read in a thread of its own: nothing else may wait for a person.
        self.lines.get_or_insert_with(|| {
            let (sender, lines) = unbounded_channel();
            std::thread::spawn(move || {
                for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
            lines
        });
        Some(format!("  or type `y` to approve {at}, `n` to reject it, and Enter"))
    }

    /// Somebody has answered, here or elsewhere.
    pub(super) fn close(&mut self, at: &StepRef) {
        self.open.retain(|open| open != at);
    }

    /// The next answer typed to the oldest open question. Never comes where there is none. Cancel-safe.
    pub(super) async fn answer(&mut self) -> (StepRef, bool) {
        loop {
            let (Some(at), Some(lines)) = (self.open.front().cloned(), &mut self.lines) else {
                return std::future::pending().await;
            };
            match lines.recv().await.map(|line| line.trim().to_ascii_lowercase()).as_deref() {
                Some("y" | "yes") => return (at, true),
                Some("n" | "no") => return (at, false),
                Some(_) => eprintln!("  type `y` or `n`"),
                None => return std::future::pending().await,
            }
        }
    }
}
