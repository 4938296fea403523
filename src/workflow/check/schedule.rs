//! A schedule: intervals, or cron expressions in a time zone, both as they are known to the crates that will carry them
//! out.

use super::grammar::{CATCHUP, KEEP, OVERLAP};
use super::shape::{self, Fields};
use super::trigger::Item;
use crate::workflow::code;
use crate::workflow::diagnostic::Report;
use crate::workflow::file::Entry;
use crate::workflow::model::{Keep, Overlap, Schedule, Times};
use crate::workflow::suggest;
use crate::workflow::types::Type;
use croner::parser::{CronParser, Seconds, Year};
use indexmap::IndexMap;
use jiff::tz::{TimeZone, TimeZoneDatabase};

/// Shortest interval in milliseconds; what is due more often is a service, not a run.
const MIN_EVERY_MS: u64 = 10_000;

/// Shortest window for catching up in milliseconds: a server needs some seconds to come back.
const MIN_WINDOW_MS: u64 = 10_000;

/// The window where the file does not say, in milliseconds: after a longer outage an old run is of no use.
const WINDOW_MS: u64 = 3_600_000;

/// Most failed runs in a row before a schedule pauses.
const MAX_FAILURES: u32 = 1_000;

/// Longest cron expression in bytes.
const MAX_CRON: usize = 200;

/// The year from which a cron expression is asked for its next time: the crate gives up at 5000, and a hundred years
/// hold every date that there is.
const PROBE_YEAR: i16 = 4_900;

/// Reads a schedule but for its name and inputs. `None` where it has no times, which is reported.
pub(super) fn schedule(report: &mut Report, item: &Item<'_>) -> Option<Schedule> {
    let fields = &item.fields;
    let times = times(report, item);
    let jitter_ms = fields.get("jitter").and_then(|entry| length(report, entry)).unwrap_or_default();
    if let (Some(Times::Every { every_ms, .. }), Some(entry)) = (&times, fields.get("jitter")) {
        shorter(report, entry, jitter_ms, *every_ms);
    }
    let overlap = fields.get("overlap").and_then(|entry| shape::word(report, entry, &OVERLAP));
    let overlap = match overlap.as_deref() {
        Some("buffer-one") => Overlap::BufferOne,
        Some("buffer-all") => Overlap::BufferAll,
        Some("cancel-other") => Overlap::CancelOther,
        Some("allow-all") => Overlap::AllowAll,
        _ => Overlap::Skip,
    };
    let (catch_up_ms, keep) =
        fields.get("catchup").map_or((WINDOW_MS, Keep::Latest), |entry| catchup(report, entry));
    let pause_after_failures = fields.get("pause-after-failures").and_then(|entry| {
        shape::whole(report, entry, 1..=MAX_FAILURES, "it is how many runs in a row may fail")
    });
    Some(Schedule {
        id: String::new(),
        times: times?,
        jitter_ms,
        overlap,
        catch_up_ms,
        keep,
        pause_after_failures,
        inputs: IndexMap::new(),
    })
}

/// A duration that may be nothing.
fn length(report: &mut Report, entry: &Entry) -> Option<u64> {
    shape::scalar(report, entry, &Type::Duration, "5m")?.as_u64()
}

/// Reports a length that does not fit into the interval.
fn shorter(report: &mut Report, entry: &Entry, length_ms: u64, every_ms: u64) {
    if length_ms >= every_ms {
        report
            .add(
                code::BAD_VALUE,
                entry.value.span.clone(),
                format!("`{}` must be shorter than `every`", entry.key),
            )
            .help("shorten it: the interval starts anew after each `every`");
    }
}

fn times(report: &mut Report, item: &Item<'_>) -> Option<Times> {
    let fields = &item.fields;
    match (fields.get("every"), fields.get("cron")) {
        (Some(every), Some(cron)) => {
            report
                .add(code::CONFLICTING, cron.key_span.clone(), "`cron` and `every` exclude each other")
                .also(every.key_span.clone(), "the other one")
                .help("keep one of them, or write two schedules");
            None
        }
        (Some(entry), None) => {
            beside(report, fields, "time-zone", "cron", entry);
            every(report, entry, fields)
        }
        (None, Some(entry)) => {
            beside(report, fields, "offset", "every", entry);
            let zone = fields.get("time-zone").map_or(Some("UTC".to_owned()), |entry| zone(report, entry));
            let expression = cron(report, entry);
            Some(Times::Cron { expression: expression?, time_zone: zone? })
        }
        (None, None) => {
            report
                .add(code::MISSING_KEY, item.span.clone(), "this schedule does not say when")
                .help("add `every: 30m`, or `cron: \"30 2 * * *\"`");
            None
        }
    }
}

/// Reports a key that belongs to the other way of giving times.
fn beside(report: &mut Report, fields: &Fields<'_>, key: &str, owner: &str, used: &Entry) {
    if let Some(entry) = fields.get(key) {
        report
            .add(
                code::CONFLICTING,
                entry.key_span.clone(),
                format!("`{key}` belongs to `{owner}`, but this schedule has `{}`", used.key),
            )
            .also(used.key_span.clone(), "the other one")
            .help(format!("remove it, or write `{owner}` in place of `{}`", used.key));
    }
}

fn every(report: &mut Report, entry: &Entry, fields: &Fields<'_>) -> Option<Times> {
    let every_ms = length(report, entry)?;
    if every_ms < MIN_EVERY_MS {
        report
            .add(
                code::BAD_VALUE,
                entry.value.span.clone(),
                format!("`every` must be at least {}s", MIN_EVERY_MS / 1_000),
            )
            .help("write a longer interval; what is due more often is work for one long step");
        return None;
    }
    let offset_ms = fields.get("offset").and_then(|entry| length(report, entry)).unwrap_or_default();
    if let Some(entry) = fields.get("offset") {
        shorter(report, entry, offset_ms, every_ms);
    }
    Some(Times::Every { every_ms, offset_ms })
}

fn cron(report: &mut Report, entry: &Entry) -> Option<String> {
    const FIELDS: &str =
        "the fields are minute, hour, day of the month, month and day of the week, as in `30 2 * * MON`";
    let text = shape::text(report, entry, "cron: \"30 2 * * *\"")?;
    let span = entry.value.span.clone();
    let mut refuse = |code, message: String, help: &str| {
        report.add(code, span.clone(), message).help(help);
        None
    };
    let count = text.split_whitespace().count();
    if let Some(nickname) = text.strip_prefix('@') {
        let same = match nickname {
            "hourly" => "write `0 * * * *`",
            "daily" | "midnight" => "write `0 0 * * *`",
            "weekly" => "write `0 0 * * SUN`",
            "monthly" => "write `0 0 1 * *`",
            "yearly" | "annually" => "write `0 0 1 1 *`",
            _ => "write five fields, or `every: 30m` in place of `cron`",
        };
        return refuse(code::CRON, "a cron expression has five fields, not a name".into(), same);
    }
    if count != 5 || text.len() > MAX_CRON {
        let message = format!("a cron expression has five fields, not {count}");
        return refuse(code::CRON, message, FIELDS);
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let cron = match parser.parse(text) {
        Ok(cron) => cron,
        Err(error) => {
            // The crate names the kind of its error first; what follows is for people.
            let reason = error.to_string();
            let reason = reason.split_once(": ").map_or(reason.as_str(), |(_, reason)| reason);
            let reason = reason.trim_end_matches('.').replace("CronPattern", "the expression");
            return refuse(code::CRON, format!("this is no cron expression: {reason}"), FIELDS);
        }
    };
    let start = jiff::civil::date(PROBE_YEAR, 1, 1).at(0, 0, 0, 0).to_zoned(TimeZone::UTC).ok()?;
    if cron.find_next_occurrence(&start, true).is_err() {
        let message = "the schedule is never due: there is no such day".into();
        return refuse(
            code::NEVER_DUE,
            message,
            "correct the day or the month; February has at most 29 days",
        );
    }
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The time zone as the database spells it. The database is that of the crate: the machine's own would make a file
/// good on one machine and bad on the other.
fn zone(report: &mut Report, entry: &Entry) -> Option<String> {
    let text = shape::text(report, entry, "time-zone: Europe/Stockholm")?;
    let database = TimeZoneDatabase::bundled();
    if let Some(name) = database.get(text).ok().as_ref().and_then(TimeZone::iana_name) {
        return Some(name.to_owned());
    }
    let names: Vec<_> = database.available().map(|name| name.as_str().to_owned()).collect();
    let near = suggest::nearest(text, names.iter().map(String::as_str)).map(str::to_owned);
    let message = format!("there is no time zone `{}`", crate::workflow::literal::shown(text));
    let diagnostic = report.add(code::TIME_ZONE, entry.value.span.clone(), message);
    match near {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")).fix(near),
        None => diagnostic.help("write an IANA name such as `Europe/Stockholm` or `UTC`"),
    };
    None
}

fn catchup(report: &mut Report, entry: &Entry) -> (u64, Keep) {
    let none = (WINDOW_MS, Keep::Latest);
    let Some(entries) = shape::mapping(report, entry, "catchup: { window: 1h, keep: latest }") else {
        return none;
    };
    let fields = shape::fields(report, entries, &CATCHUP);
    let window = fields.get("window").and_then(|entry| {
        let window = length(report, entry)?;
        if window < MIN_WINDOW_MS {
            report
                .add(
                    code::BAD_VALUE,
                    entry.value.span.clone(),
                    format!("`window` must be at least {}s", MIN_WINDOW_MS / 1_000),
                )
                .help("write a longer window, or `keep: none` for no catching up");
        }
        Some(window)
    });
    let keep = fields.get("keep").and_then(|entry| shape::word(report, entry, &KEEP));
    let keep = match keep.as_deref() {
        Some("all") => Keep::All,
        Some("none") => Keep::None,
        _ => Keep::Latest,
    };
    (window.unwrap_or(WINDOW_MS), keep)
}
