//! Spans of time as a person writes them on the command line: `90s`, `30m`, `12h`, `30d`, `500ms`.

/// Nanoseconds of a span.
///
/// # Errors
/// What was expected, for the usage message.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let expected = || "a number above zero with ms, s, m, h or d, such as 90s".to_owned();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let number: u64 = digits.parse().map_err(|_| expected())?;
    let unit_ns: u64 = match unit {
        "ms" => 1_000_000,
        "" | "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return Err(expected()),
    };
    number.checked_mul(unit_ns).filter(|ns| *ns > 0).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_with_their_unit() {
        for (text, want) in [
            ("90s", Some(90_000_000_000)),
            ("90", Some(90_000_000_000)),
            ("250ms", Some(250_000_000)),
            ("2h", Some(7_200_000_000_000)),
            ("0s", None),
            ("-1s", None),
            ("1w", None),
            ("", None),
            ("s", None),
            ("99999999999999999999s", None),
            ("999999999999d", None),
        ] {
            assert_eq!(parse(text).ok(), want, "{text}");
        }
    }
}
