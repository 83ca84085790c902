//! The two languages of every message a person sees, and the macro that keeps both in one table.
//! The tables themselves live beside who speaks: `agent/src/text.rs`, `platform/src/text.rs`, `audit/src/text.rs`.

use std::ffi::OsString;

/// A language a person may choose with `--lang` or by locale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lang {
    /// English.
    #[default]
    En,
    /// Simplified Chinese.
    Zh,
}

impl Lang {
    /// The language of a locale name such as `zh_CN.UTF-8`; everything that is not Chinese is English.
    pub fn from_locale(locale: &str) -> Self {
        if locale.starts_with("zh") { Lang::Zh } else { Lang::En }
    }
}

/// The language a command line asks for with `--lang`, otherwise that of the locale, whose variables `env` reads. Needed before
/// the arguments are parsed, because they may be wrong.
pub fn wanted_lang(arguments: &[OsString], env: impl Fn(&str) -> Option<String>) -> Lang {
    let mut words = arguments.iter().skip(1).map(|word| word.to_string_lossy()).take_while(|word| word != "--");
    while let Some(word) = words.next() {
        let value = match word.strip_prefix("--lang") {
            Some("") => words.next().map(|next| next.into_owned()),
            Some(rest) => rest.strip_prefix('=').map(str::to_owned),
            None => None,
        };
        if let Some(value) = value {
            return Lang::from_locale(&value);
        }
    }
    let set = |name| env(name).filter(|value| !value.is_empty());
    let locale = set("LC_ALL").or_else(|| set("LC_MESSAGES")).or_else(|| set("LANG"));
    locale.map_or(Lang::En, |name| Lang::from_locale(&name))
}

/// Declares an enum of messages with its English and Chinese text side by side:
/// `texts! { /// doc Name { arg } => "english {arg}", "中文 {arg}"; }`. Arguments are `String`s.
#[macro_export]
macro_rules! texts {
    ($($(#[$meta:meta])* $name:ident { $($arg:ident),* } => $en:literal, $zh:literal;)*) => {
        /// The messages of this program, both languages in one table.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the English text beside each name is its documentation")]
        pub enum Text { $($(#[$meta])* $name { $($arg: String),* }),* }
        impl Text {
            /// The message in `lang`.
            pub fn render(&self, lang: $crate::Lang) -> String {
                match self {
                    $(Text::$name { $($arg),* } => match lang {
                        $crate::Lang::En => format!($en),
                        $crate::Lang::Zh => format!($zh),
                    },)*
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_beats_the_locale_and_may_stand_anywhere() {
        for (line, locale, want) in [
            (&["hufu", "--lang", "zh", "demo"][..], "en_US.UTF-8", Lang::Zh),
            (&["hufu", "demo", "--lang=zh"], "C", Lang::Zh),
            (&["hufu", "--lang", "en"], "zh_CN.UTF-8", Lang::En),
            (&["hufu", "demo"], "zh_CN.UTF-8", Lang::Zh),
            (&["hufu", "meter", "--", "x", "--lang", "zh"], "", Lang::En),
        ] {
            let words: Vec<OsString> = line.iter().map(OsString::from).collect();
            let env = |name: &str| (name == "LANG").then(|| locale.to_owned());
            assert_eq!(wanted_lang(&words, env), want, "{line:?}");
        }
    }
}
