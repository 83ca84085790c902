//! The two languages of every message a person sees, and the macro that keeps both in one table.
//! The tables themselves live beside who speaks: `agent/src/text.rs`, `platform/src/text.rs`, `audit/src/text.rs`.

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
