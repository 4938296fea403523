//! What the agent is told of its limits: one that knows them plans for them, and one that does not runs into them.

use crate::harvest::sandbox::types::{Bounds, Reach};

/// What bounds a session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// What the network reaches, as a sentence.
    pub network: String,
    /// US dollars.
    pub money: Option<f64>,
    /// Milliseconds.
    pub time: Option<u64>,
    /// Turns of the model.
    pub turns: Option<u32>,
    /// Bytes of memory.
    pub memory: Option<u64>,
}

impl Limits {
    /// As a part of the system prompt.
    pub fn told(&self) -> String {
        let mut lines = vec![format!("- Network: {}", self.network)];
        lines.push(match self.money {
            Some(usd) => {
                format!("- Budget: {usd:.2} USD. An answer that goes beyond is cut off in its middle.")
            }
            None => "- Budget: none was set; spend as little as the task needs.".into(),
        });
        lines.push(match self.time {
            Some(ms) => {
                format!("- Time: {} minutes from now. Then the session is ended.", ms.div_ceil(60_000))
            }
            None => "- Time: no limit was set.".into(),
        });
        if let Some(turns) = self.turns {
            lines.push(format!("- Turns: {turns}."));
        }
        if let Some(bytes) = self.memory {
            lines.push(format!("- Memory: {} MiB for everything that runs in the sandbox.", bytes >> 20));
        }
        format!(
            "# Limits of this session\n{}\nFinish small steps whole: what is in the tree when a limit is reached is kept.",
            lines.join("\n")
        )
    }
}

/// What the network reaches, as a sentence.
pub fn network(bounds: &Bounds) -> String {
    match &bounds.network {
        Reach::Nothing => "none. Package registries, Git remotes and web pages cannot be reached.".into(),
        Reach::Everything => "all that this machine reaches.".into(),
        Reach::Domains(domains) => {
            format!("only {}, through a proxy that is configured.", domains.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_limits_are_told() {
        let limits = Limits {
            network: "none.".into(),
            money: Some(2.0),
            time: Some(90 * 60_000 - 1),
            turns: Some(30),
            memory: Some(4 << 30),
        };
        let told = limits.told();
        for line in [
            "- Network: none.",
            "- Budget: 2.00 USD",
            "- Time: 90 minutes",
            "- Turns: 30.",
            "- Memory: 4096 MiB",
        ] {
            assert!(told.contains(line), "{line} is not in {told}");
        }
        assert!(Limits::default().told().contains("- Budget: none was set"));
    }
}
