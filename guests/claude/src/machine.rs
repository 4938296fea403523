//! Where a session stands, and what is to be done when nothing happens: spawned -> init -> turns -> result -> drained.
//! Pure: time is a number of milliseconds that only grows.

/// Milliseconds that the CLI may take to say that it has started; its MCP servers start before that.
const START_MS: u64 = 180_000;
/// Milliseconds that the CLI may say nothing while it works. A tool may run for ten minutes by the CLI's own limit.
const IDLE_MS: u64 = 20 * 60_000;
/// Milliseconds that the CLI may take to put things in order once it was interrupted.
const INTERRUPT_MS: u64 = 10_000;
/// Milliseconds that the CLI may go on after its result.
const LINGER_MS: u64 = 30_000;
/// Milliseconds before the step's own limit at which the session is ended, so that it still has a result.
const CLOSING_MS: u64 = 20_000;
/// Milliseconds below which a step has no time to end in order.
const SHORT_MS: u64 = 60_000;

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The process exists.
    Spawned,
    /// It has said with what it starts.
    Init,
    /// The model has answered.
    Turns,
    /// There is a result, and no further prompt.
    Result,
    /// It has closed its output.
    Drained,
}

/// Why a session was stopped from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It did not start in time.
    NotStarted,
    /// It said nothing for too long.
    Silent,
    /// The step's time is over.
    OutOfTime,
    /// It did not end after its result.
    Lingered,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the CLI to stop what it does and to give a result.
    Interrupt,
    /// End it with everything it started.
    Kill,
}

/// A session's stage and timers.
#[derive(Clone, Debug)]
pub struct Machine {
    stage: Stage,
    /// When the stage began.
    since: u64,
    /// When something was last heard.
    heard: u64,
    /// When the step's time is over, where it has a limit.
    total: Option<u64>,
    /// Why it was stopped, and when it was told.
    stopped: Option<(Stop, u64)>,
}

impl Machine {
    /// A session that begins now; `remaining` is what is left of the step's time.
    pub fn new(now: u64, remaining: Option<u64>) -> Self {
        let total = remaining.filter(|left| *left > SHORT_MS).map(|left| now + left - CLOSING_MS);
        Self { stage: Stage::Spawned, since: now, heard: now, total, stopped: None }
    }

    /// Where it stands.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Why it was stopped, if it was.
    pub fn stopped(&self) -> Option<Stop> {
        self.stopped.map(|(stop, _)| stop)
    }

    /// Something was heard.
    pub fn heard(&mut self, now: u64) {
        self.heard = now;
    }

    /// The session has come to a stage; it never goes back.
    pub fn reach(&mut self, stage: Stage, now: u64) {
        if stage > self.stage {
            (self.stage, self.since) = (stage, now);
        }
    }

    /// What is due; each is due once.
    pub fn due(&mut self, now: u64) -> Option<Action> {
        let (stop, at, action) = self.next()?;
        if now < at {
            return None;
        }
        self.stopped = Some((stop, now));
        Some(action)
    }

    /// Milliseconds until something may be due.
    pub fn patience(&self, now: u64) -> u64 {
        self.next().map_or(IDLE_MS, |(_, at, _)| at.saturating_sub(now))
    }

    /// What is due next if nothing happens, and when.
    fn next(&self) -> Option<(Stop, u64, Action)> {
        match (self.stage, self.stopped) {
            (Stage::Drained, _) => None,
            (Stage::Result, _) => {
                Some((self.stopped().unwrap_or(Stop::Lingered), self.since + LINGER_MS, Action::Kill))
            }
            (_, Some((stop, told))) => Some((stop, told + INTERRUPT_MS, Action::Kill)),
            (Stage::Spawned, None) => self.sooner((Stop::NotStarted, self.since + START_MS, Action::Kill)),
            (Stage::Init | Stage::Turns, None) => {
                self.sooner((Stop::Silent, self.heard + IDLE_MS, Action::Interrupt))
            }
        }
    }

    /// The end of the step's time where that comes first.
    fn sooner(&self, other: (Stop, u64, Action)) -> Option<(Stop, u64, Action)> {
        match self.total {
            Some(total) if total < other.1 => Some((Stop::OutOfTime, total, Action::Interrupt)),
            _ => Some(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_does_not_start_is_killed() {
        let mut machine = Machine::new(5, None);
        assert_eq!((machine.patience(5), machine.due(START_MS)), (START_MS, None));
        assert_eq!(
            (machine.due(START_MS + 5), machine.stopped()),
            (Some(Action::Kill), Some(Stop::NotStarted))
        );
    }

    #[test]
    fn silence_is_interrupted_and_then_killed() {
        let mut machine = Machine::new(0, None);
        machine.reach(Stage::Init, 10);
        machine.heard(1_000);
        assert_eq!(machine.due(IDLE_MS + 999), None);
        assert_eq!(machine.due(IDLE_MS + 1_000), Some(Action::Interrupt));
        machine.heard(IDLE_MS + 2_000);
        assert_eq!(machine.due(IDLE_MS + 1_000 + INTERRUPT_MS), Some(Action::Kill));
        assert_eq!(machine.stopped(), Some(Stop::Silent));
    }

    #[test]
    fn a_step_ends_in_order_before_its_time_is_over() {
        let mut machine = Machine::new(100, Some(600_000));
        machine.reach(Stage::Turns, 200);
        machine.heard(580_000);
        assert_eq!(machine.due(580_099), None);
        assert_eq!(machine.due(580_100), Some(Action::Interrupt));
        // The result came in time, and the CLI ended.
        machine.reach(Stage::Result, 581_000);
        machine.reach(Stage::Drained, 582_000);
        assert_eq!((machine.due(u64::MAX), machine.stopped()), (None, Some(Stop::OutOfTime)));
        // With less than that nothing could be put in order.
        assert_eq!(Machine::new(0, Some(SHORT_MS)).patience(0), START_MS);
    }

    #[test]
    fn a_cli_that_goes_on_after_its_result_is_killed() {
        let mut machine = Machine::new(0, None);
        machine.reach(Stage::Result, 1_000);
        machine.heard(30_000);
        assert_eq!(machine.due(LINGER_MS + 1_000), Some(Action::Kill));
        assert_eq!(machine.stopped(), Some(Stop::Lingered));
    }

    #[test]
    fn stages_only_go_forward() {
        let mut machine = Machine::new(0, None);
        machine.reach(Stage::Turns, 1);
        machine.reach(Stage::Init, 2);
        assert_eq!(machine.stage(), Stage::Turns);
    }
}
