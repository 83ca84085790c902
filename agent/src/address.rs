//! The address at which a buyer reaches its order, where the site's command names none: a template of the configuration with a
//! closed set of placeholders. What the buyer is told is `exchange.rs`; nothing here is looked up or connected to.

use hufu_trade::octets::ContractNo;

/// Longest template, bytes.
const TEMPLATE_BYTES_MAX: usize = 256;
const EXPECTED: &str = "{contract_no}, {node}, {site}, {pid} and {cgroup} can be filled in; write {{ and }} for braces";

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    ContractNo,
    Node,
    Site,
    Pid,
    Cgroup,
}

/// A template that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

/// What a template is filled in with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filling<'a> {
    pub(crate) contract_no: ContractNo,
    pub(crate) site: &'a str,
    pub(crate) node: &'a str,
    /// Root process, where the command named one.
    pub(crate) pid: Option<u32>,
    /// The order's cgroup, where it has one.
    pub(crate) cgroup: Option<&'a str>,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it, for whoever wrote it.
    pub(crate) fn from_text(text: &str) -> Result<Self, String> {
        if !(1..=TEMPLATE_BYTES_MAX).contains(&text.len()) || text.chars().any(|c| c.is_control() || c.is_whitespace())
        {
            return Err("1 to 256 bytes without blanks and control characters expected".to_owned());
        }
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            plain.push_str(before);
            if let Some(after) = from.strip_prefix("{{").or(from.strip_prefix("}}")) {
                plain.extend(from.chars().next());
                rest = after;
                continue;
            }
            let named = from.strip_prefix('{').and_then(|from| from.split_once('}'));
            let (name, after) = named.ok_or_else(|| format!("a brace without its other half; {EXPECTED}"))?;
            let part = match name {
                "contract_no" => Part::ContractNo,
                "node" => Part::Node,
                "site" => Part::Site,
                "pid" => Part::Pid,
                "cgroup" => Part::Cgroup,
                other => return Err(format!("{{{other}}} is unknown; {EXPECTED}")),
            };
            parts.extend([Part::Text(std::mem::take(&mut plain)), part]);
            rest = after;
        }
        plain.push_str(rest);
        parts.push(Part::Text(plain));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self(parts))
    }

    /// The address of an order.
    ///
    /// # Errors
    /// Which placeholder this order has nothing for.
    pub(crate) fn fill(&self, with: Filling<'_>) -> Result<String, String> {
        let lacks = |name: &str| format!("provision.address needs {{{name}}}, which this order has not");
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::ContractNo => out.push_str(&with.contract_no.to_string()),
                Part::Node => out.push_str(with.node),
                Part::Site => out.push_str(with.site),
                Part::Pid => out.push_str(&with.pid.ok_or_else(|| lacks("pid"))?.to_string()),
                Part::Cgroup => out.push_str(with.cgroup.ok_or_else(|| lacks("cgroup"))?),
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use hufu_trade::octets::Octets;

    use super::*;

    fn filled(text: &str, pid: Option<u32>) -> Result<String, String> {
        let with = Filling { contract_no: Octets([7; 16]), site: "s1", node: "n1", pid, cgroup: Some("a/b") };
        Template::from_text(text)?.fill(with)
    }

    #[test]
    fn a_template_is_filled_in_or_says_what_is_wrong() {
        let number = "07".repeat(16);
        for (text, want) in [
            ("ssh://{node}.{site}.example:22", "ssh://n1.s1.example:22".to_owned()),
            ("https://gate.example/{contract_no}", format!("https://gate.example/{number}")),
            ("{pid}{cgroup}", "7a/b".to_owned()),
            ("plain", "plain".to_owned()),
            ("{{node}}", "{node}".to_owned()),
            ("{{{node}}}", "{n1}".to_owned()),
            ("\u{4e2d}{node}\u{6587}", "\u{4e2d}n1\u{6587}".to_owned()),
        ] {
            assert_eq!(filled(text, Some(7)), Ok(want), "{text}");
        }
        for (text, word) in [
            ("ssh://{port}", "{port} is unknown"),
            ("{", "other half"),
            ("}", "other half"),
            ("{node", "other half"),
            ("{}", "{} is unknown"),
            ("{no{de}}", "is unknown"),
            ("", "1 to 256"),
            ("a b", "blanks"),
            ("a\n", "blanks"),
        ] {
            let why = filled(text, Some(7)).unwrap_err();
            assert!(why.contains(word), "{text:?}: {why}");
        }
        assert!(filled(&"x".repeat(257), None).is_err());
        assert!(filled("{pid}", None).unwrap_err().contains("needs {pid}"));
    }
}
