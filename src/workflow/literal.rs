//! The value that a text spells, by the type that is wanted. One reading for workflow files and for `-i NAME=VALUE`.
//! Durations become milliseconds and sizes bytes, both whole numbers, which is how they travel in every `Value`.

use super::suggest;
use super::types::Type;
use serde_json::Value;

/// The value of a scalar's text. The error completes the sentence "`text` is no ...", and says what to write.
pub(crate) fn scalar(text: &str, ty: &Type) -> Result<Value, String> {
    match ty {
        Type::String => Ok(text.into()),
        Type::Bool => match text {
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            _ => Err(format!("`{}` is no bool; write `true` or `false`", shown(text))),
        },
        Type::Int => text.parse::<i64>().map(Value::from).map_err(|error| match error.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
                format!("`{}` does not fit into 64 bits", shown(text))
            }
            _ => format!("`{}` is no int; write a whole number such as `42`", shown(text)),
        }),
        Type::Float => text
            .parse::<f64>()
            .ok()
            .filter(|float| {
                float.is_finite() && text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
            })
            .map(Value::from)
            .ok_or_else(|| format!("`{}` is no float; write a number such as `0.5`", shown(text))),
        Type::Duration => duration_ms(text).map(Value::from),
        Type::Size => size_bytes(text).map(Value::from),
        Type::Enum(cases) => {
            if cases.iter().any(|case| case == text) {
                return Ok(text.into());
            }
            let help = suggest::help("it is one of", text, cases.iter().map(String::as_str));
            Err(format!("`{}` is none of its values; {help}", shown(text)))
        }
        Type::Bytes => {
            use base64::Engine as _;
            let valid = base64::engine::general_purpose::STANDARD.decode(text).is_ok();
            if valid { Ok(text.into()) } else { Err(format!("`{}` is no base64 text", shown(text))) }
        }
        Type::Option(inner) => scalar(text, inner),
        Type::Variant(cases) => {
            let plain = || cases.iter().filter(|(_, ty)| ty.is_none()).map(|(name, _)| name.as_str());
            match plain().find(|name| *name == text || name.replace('-', "_") == text) {
                Some(name) => Ok(name.into()),
                None => {
                    let help = suggest::help("it is one of", text, plain());
                    Err(format!("`{}` is none of its cases; {help}", shown(text)))
                }
            }
        }
        Type::Any => Ok(core_schema(text)),
        Type::List(_) | Type::Tuple(_) => Err(format!("`{}` is no list; write `[a, b]`", shown(text))),
        Type::Map(_) | Type::Record(_) => {
            Err(format!("`{}` is no mapping; write `{{ key: value }}`", shown(text)))
        }
    }
}

/// Milliseconds of `90s`, `1h 30m`.
pub(crate) fn duration_ms(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!(
            "`{}` is no duration; write a number with its unit, such as `90s`, `5m` or `1h 30m`",
            shown(text)
        )
    };
    if text.len() > 64 || !text.contains(|c: char| c.is_ascii_alphabetic()) {
        return Err(wrong());
    }
    let duration: jiff::SignedDuration = text.trim().parse().map_err(|_| {
        if text.contains(['d', 'w', 'y']) && !text.contains("ms") {
            format!("`{}` has a unit longer than an hour; write hours, such as `48h`", shown(text))
        } else {
            wrong()
        }
    })?;
    u64::try_from(duration.as_millis())
        .map_err(|_| format!("`{}` is negative; a duration is not", shown(text)))
}

/// Bytes of `512MiB`, `1.5GB`, `100B`.
pub(crate) fn size_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 9] = [
        ("B", 1),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
    ];
    let wrong =
        || format!("`{}` is no size; write a number with its unit, such as `512MiB` or `4GiB`", shown(text));
    let text = text.trim();
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
    let (number, unit) = (&text[..unit_at], text[unit_at..].trim());
    let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(*unit).filter(|bytes| i64::try_from(*bytes).is_ok()).ok_or_else(wrong);
    }
    let bytes = number.parse::<f64>().map_err(|_| wrong())? * *unit as f64;
    // Above 2^53 a fraction of a unit has no exact number of bytes.
    if bytes < 9.0e15 { Ok(bytes.round() as u64) } else { Err(wrong()) }
}

/// Millionths of a US dollar of `5 USD`, `0.50 USD`.
pub(crate) fn micro_usd(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{}` is no amount of money; write it as `5 USD` or `0.50 USD`", shown(text));
    let (number, currency) = text.trim().split_once(char::is_whitespace).ok_or_else(wrong)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if currency.trim() != "USD" || !digits(whole) || !digits(fraction) || fraction.len() > 6 {
        return Err(wrong());
    }
    let whole = whole.parse::<u64>().map_err(|_| wrong())?;
    let fraction = format!("{fraction:0<6}").parse::<u64>().map_err(|_| wrong())?;
    whole.checked_mul(1_000_000).and_then(|whole| whole.checked_add(fraction)).ok_or_else(wrong)
}

/// What YAML 1.2's core schema makes of a plain scalar: only where anything is allowed.
fn core_schema(text: &str) -> Value {
    match text {
        "true" => true.into(),
        "false" => false.into(),
        "null" | "~" | "" => Value::Null,
        _ => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(int), _) => int.into(),
            (_, Ok(float)) if float.is_finite() && text.contains(|c: char| c.is_ascii_digit()) => {
                float.into()
            }
            _ => text.into(),
        },
    }
}

/// A text short enough for a message.
pub(crate) fn shown(text: &str) -> &str {
    const LIMIT: usize = 60;
    &text[..text.floor_char_boundary(LIMIT)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_type_decides_what_a_text_is() {
        for (text, ty, expected) in [
            ("3.10", Type::String, json!("3.10")),
            ("no", Type::String, json!("no")),
            ("true", Type::Bool, json!(true)),
            ("-7", Type::Int, json!(-7)),
            ("3", Type::Float, json!(3.0)),
            ("1e3", Type::Float, json!(1000.0)),
            ("90s", Type::Duration, json!(90_000)),
            ("1h 30m", Type::Duration, json!(5_400_000)),
            ("250ms", Type::Duration, json!(250)),
            ("4GiB", Type::Size, json!(4_u64 << 30)),
            ("1.5 kB", Type::Size, json!(1500)),
            ("b", Type::Enum(vec!["a".into(), "b".into()]), json!("b")),
            ("aGk=", Type::Bytes, json!("aGk=")),
            ("12", Type::Any, json!(12)),
            ("x", Type::Option(Box::new(Type::String)), json!("x")),
        ] {
            assert_eq!(scalar(text, &ty), Ok(expected), "{text} as {ty}");
        }
    }

    #[test]
    fn money_is_shown_as_it_may_be_written() {
        for (micro, shown) in
            [(5_000_000, "5.00 USD"), (500_000, "0.50 USD"), (123, "0.000123 USD"), (0, "0.00 USD")]
        {
            assert_eq!(crate::step::in_usd(micro), shown);
            assert_eq!(micro_usd(shown), Ok(micro));
        }
    }

    #[test]
    fn money_is_a_number_with_its_currency() {
        for (text, expected) in
            [("5 USD", 5_000_000), ("0.5 USD", 500_000), (" 12.345678  USD ", 12_345_678), ("0 USD", 0)]
        {
            assert_eq!(micro_usd(text), Ok(expected), "{text}");
        }
        let bad = [
            "5",
            "5USD",
            "$5",
            "-1 USD",
            ".5 USD",
            "1.2345678 USD",
            "99999999999999 USD",
            "1e3 USD",
            "5. USD",
        ];
        assert!(bad.iter().all(|text| micro_usd(text).is_err()));
    }

    #[test]
    fn what_is_wrong_says_what_to_write() {
        let wrong = |text, ty: Type| scalar(text, &ty).unwrap_err();
        insta::assert_snapshot!(wrong("no", Type::Bool), @"`no` is no bool; write `true` or `false`");
        insta::assert_snapshot!(wrong("90", Type::Duration), @"`90` is no duration; write a number with its unit, such as `90s`, `5m` or `1h 30m`");
        insta::assert_snapshot!(wrong("2d", Type::Duration), @"`2d` has a unit longer than an hour; write hours, such as `48h`");
        insta::assert_snapshot!(wrong("4G", Type::Size), @"`4G` is no size; write a number with its unit, such as `512MiB` or `4GiB`");
        insta::assert_snapshot!(wrong("99999999999999999999", Type::Int), @"`99999999999999999999` does not fit into 64 bits");
        insta::assert_snapshot!(micro_usd("5 EUR").unwrap_err(), @"`5 EUR` is no amount of money; write it as `5 USD` or `0.50 USD`");
        insta::assert_snapshot!(wrong("inf", Type::Float), @"`inf` is no float; write a number such as `0.5`");
        insta::assert_snapshot!(wrong("refse", Type::Enum(vec!["refuse".into(), "force".into()])), @"`refse` is none of its values; did you mean `refuse`?");
    }
}
