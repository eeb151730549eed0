//! A text as its words, in clauses: what is said of a word is said in its clause.

use std::collections::HashMap;
use std::ops::Range;

use super::words::{NEGATIONS, ZERO};

/// In lower case it is the pronoun, not the country.
const PRONOUN: &str = "us";
/// Words that begin a clause, where they do not begin the text.
const CONJUNCTIONS: &[&str] = &[
    "but", "however", "although", "though", "whereas", "while", "then", "except",
];

/// Of a clause's own.
const VERBS: &[&str] = &[
    "is", "are", "was", "were", "has", "have", "had", "remain", "remains",
];

/// Words further apart than this have nothing to do with each other.
const REACH: usize = 24;

/// The words of a text, in lower case, in order.
pub(super) struct Words {
    pub(super) words: Vec<String>,
    /// Where each word stands, so that a pattern costs a look-up and not a walk through the text.
    pub(super) places: HashMap<String, Vec<usize>>,
    /// In order, none empty.
    pub(super) clauses: Vec<Clause>,
    /// The clause of each word.
    pub(super) clause_of: Vec<usize>,
}

pub(super) struct Clause {
    pub(super) words: Range<usize>,
    /// A mark such as `:` or `]` ends it: it may be a label for what follows.
    pub(super) is_label: bool,
    /// A comma ends it, or a word that begins the next.
    pub(super) goes_on: bool,
}

enum Token {
    /// In lower case.
    Word(String),
    /// What ends a clause.
    Mark(char),
}

impl Words {
    pub(super) fn of(original: &str) -> Self {
        let tokens = tokens(original);
        let mut words = Self {
            words: Vec::new(),
            places: HashMap::new(),
            clauses: Vec::new(),
            clause_of: Vec::new(),
        };
        let mut begun = 0;
        for (at, token) in tokens.iter().enumerate() {
            let so_far = &words.words[begun..];
            match token {
                Token::Word(word) => {
                    if begins_a_clause(word, so_far, &tokens[at + 1..]) {
                        words.end_clause(&mut begun, ',');
                    }
                    words.words.push(word.clone());
                    words.clause_of.push(words.clauses.len());
                }
                Token::Mark(',') if goes_on_denying(so_far, &tokens[at + 1..]) => {}
                Token::Mark(mark) => words.end_clause(&mut begun, *mark),
            }
        }
        words.end_clause(&mut begun, '.');
        for (place, word) in words.words.iter().enumerate() {
            words.places.entry(word.clone()).or_default().push(place);
        }
        words
    }

    fn end_clause(&mut self, begun: &mut usize, mark: char) {
        let words = *begun..self.words.len();
        *begun = words.end;
        if !words.is_empty() {
            self.clauses.push(Clause {
                words,
                is_label: matches!(mark, ':' | ']' | ')' | '-' | '|'),
                goes_on: mark == ',',
            });
        }
    }

    /// Whether a pattern stands at a place.
    pub(super) fn stands_at(&self, pattern: &str, at: usize) -> bool {
        let mut words = self.words[at..].iter();
        pattern
            .split(' ')
            .all(|word| words.next().is_some_and(|next| next == word))
    }

    /// Every place of a pattern.
    pub(super) fn all<'b>(&'b self, pattern: &'b str) -> impl Iterator<Item = usize> + 'b {
        let first = pattern.split(' ').next().unwrap_or_default();
        let places = self.places.get(first).map_or(&[][..], Vec::as_slice);
        places
            .iter()
            .copied()
            .filter(move |at| self.stands_at(pattern, *at))
    }

    /// The words of a clause.
    pub(super) fn within(&self, clause: &Clause) -> &[String] {
        &self.words[clause.words.clone()]
    }

    /// Where what bears on a word begins: with its clause, or its reach in a long one.
    pub(super) fn reach(&self, at: usize) -> usize {
        let clause = &self.clauses[self.clause_of[at]];
        clause.words.start.max(at.saturating_sub(REACH))
    }

    /// The words of a place's clause that stand before it, and bear on it.
    pub(super) fn before(&self, at: usize) -> &[String] {
        &self.words[self.reach(at)..at]
    }

    /// The words of a place's clause from it on.
    pub(super) fn from(&self, at: usize) -> &[String] {
        &self.words[at..self.clauses[self.clause_of[at]].words.end]
    }
}

fn tokens(original: &str) -> Vec<Token> {
    let letters: Vec<char> = original.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < letters.len() {
        let is_word = |place: &usize| is_of_a_word(&letters, *place);
        let word: String = (at..letters.len())
            .take_while(is_word)
            .map(|place| letters[place])
            .collect();
        if word.is_empty() {
            if ends_a_clause(letters[at]) {
                tokens.push(Token::Mark(letters[at]));
            }
            at += 1;
            continue;
        }
        at += word.chars().count();
        let word = word.replace('\u{2019}', "'");
        let word = word.trim_matches('\'');
        if word != PRONOUN && !word.is_empty() {
            tokens.push(Token::Word(word.to_lowercase()));
        }
    }
    tokens
}

/// The words up to the next mark, as far as they bear on what is before them.
fn ahead(tokens: &[Token]) -> impl Iterator<Item = &str> {
    tokens.iter().take(REACH).map_while(|token| match token {
        Token::Word(word) => Some(word.as_str()),
        Token::Mark(_) => None,
    })
}

/// `but …`, `and no …`; and `and …` with a verb of its own, where what is before it is denied.
fn begins_a_clause(word: &str, so_far: &[String], rest: &[Token]) -> bool {
    if CONJUNCTIONS.contains(&word) {
        return true;
    }
    let is_negation = |word: &str| NEGATIONS.contains(&word) || ZERO.contains(&word);
    let is_denied = || {
        so_far
            .iter()
            .rev()
            .take(REACH)
            .any(|word| is_negation(word))
    };
    matches!(word, "and" | "or")
        && (ahead(rest).next().is_some_and(is_negation)
            || word == "and" && is_denied() && ahead(rest).any(|word| VERBS.contains(&word)))
}

/// `no failures, errors or timeouts`: what is denied goes on behind the comma, where nouns follow up to an "or".
fn goes_on_denying(so_far: &[String], rest: &[Token]) -> bool {
    let is_denied = so_far
        .iter()
        .rev()
        .take(REACH)
        .any(|word| matches!(word.as_str(), "no" | "without" | "0" | "zero" | "neither"));
    let is_noun = |word: &&str| !word.ends_with("ing") && !word.ends_with("ed");
    let mut nouns = ahead(rest).take_while(|word| *word != "or");
    let listed = nouns.by_ref().take(3).collect::<Vec<_>>();
    is_denied
        && listed.len() < 3
        && listed.iter().all(is_noun)
        && ahead(rest).nth(listed.len()) == Some("or")
}

fn is_of_a_word(letters: &[char], at: usize) -> bool {
    let letter = letters[at];
    let is_between = |joined: fn(char) -> bool| {
        at > 0 && joined(letters[at - 1]) && letters.get(at + 1).copied().is_some_and(joined)
    };
    letter.is_alphanumeric()
        || matches!(letter, '\'' | '\u{2019}')
        // A dash between blanks parts clauses.
        || letter == '-' && is_between(|beside| !beside.is_whitespace())
        // `99.9`, `1,000`.
        || matches!(letter, '.' | ',') && is_between(|beside| beside.is_ascii_digit())
}

fn ends_a_clause(letter: char) -> bool {
    matches!(
        letter,
        '.' | ','
            | ';'
            | ':'
            | '!'
            | '?'
            | '\n'
            | '('
            | ')'
            | '['
            | ']'
            | '|'
            | '-'
            | '–'
            | '—'
            | '…'
    )
}
