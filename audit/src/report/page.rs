//! Writes HTML in which nothing from outside can be markup: markup is what stands in this program's source, everything else
//! is text.

use std::fmt::{Display, Write};

/// A page that is being written.
#[derive(Default)]
pub(super) struct Page {
    out: String,
}

impl Page {
    /// Markup of this program's own.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.out += markup;
        self
    }

    /// Text from anywhere, in content or between quotes. Characters that only steer how others are shown are made visible.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        let mut plain = String::new();
        let _ = write!(plain, "{text}");
        for character in plain.chars() {
            match character {
                '&' => self.out += "&amp;",
                '<' => self.out += "&lt;",
                '>' => self.out += "&gt;",
                '"' => self.out += "&quot;",
                '\'' => self.out += "&#39;",
                '\n' => self.out.push(' '),
                steers if steers.is_control() || is_steering(steers) => self.out.push('\u{fffd}'),
                shown => self.out.push(shown),
            }
        }
        self
    }

    /// A row of a table, every cell text.
    pub(super) fn row(&mut self, cells: &[&dyn Display]) -> &mut Self {
        self.raw("<tr>");
        for cell in cells {
            self.raw("<td>").text(cell).raw("</td>");
        }
        self.raw("</tr>\n")
    }

    /// The head of a table.
    pub(super) fn head(&mut self, cells: &[String]) -> &mut Self {
        self.raw("<thead><tr>");
        for cell in cells {
            self.raw("<th>").text(cell).raw("</th>");
        }
        self.raw("</tr></thead>\n")
    }

    pub(super) fn finish(self) -> String {
        self.out
    }
}

/// Marks of direction, isolation and width, and the byte order mark.
fn is_steering(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_never_markup() {
        let mut page = Page::default();
        page.raw("<p>").text("<script>alert(\"&'\")</script>\u{202e}\0\n").raw("</p>");
        assert_eq!(page.finish(), "<p>&lt;script&gt;alert(&quot;&amp;&#39;&quot;)&lt;/script&gt;\u{fffd}\u{fffd} </p>");
    }
}
