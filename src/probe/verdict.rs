//! What an error that a server sends says of the server. The SQLSTATE decides;
//! a text only where PostgreSQL has one code for several states (57P03).

use std::rc::Rc;

use postgres_protocol::message::backend::ErrorFields;

use super::{Acceptance, ProbeAnswer, ServerError};
use crate::limits::{PG_MESSAGE_BYTES_MAX, PG_TEXT_BYTES_MAX};

/// `too_many_connections`.
const TOO_MANY_CONNECTIONS: &str = "53300";

/// `cannot_connect_now`.
const CANNOT_CONNECT_NOW: &str = "57P03";

/// `admin_shutdown`.
const ADMIN_SHUTDOWN: &str = "57P01";

/// Classes of errors that concern who asks and for what; a server gives them
/// only when it runs: no entry in `pg_hba.conf` or a wrong password (28), no such
/// database (3D), no privilege or no such parameter (42), a value that does not
/// fit (22), a database that takes no connections (55), an unknown option (0A).
const OF_A_RUNNING_SERVER: [&str; 6] = ["28", "3D", "42", "22", "55", "0A"];

/// "the database system is starting up", in the languages that PostgreSQL
/// speaks (`lc_messages`).
const STARTING_UP: [&str; 12] = [
    "the database system is starting up",
    "das Datenbanksystem startet",
    "el sistema de base de datos está iniciándose",
    "le système de bases de données se lance",
    "il database si sta avviando",
    "データベースシステムは起動処理中です",
    "მიმდინარეობს მონაცემთა ბაზის სისტემის გაშვება",
    "데이터베이스 시스템이 새로 가동 중입니다.",
    "система баз данных запускается",
    "databassystemet startar upp",
    "система бази даних запускається",
    "数据库系统启动中",
];

/// "the database system is shutting down", likewise.
const SHUTTING_DOWN: [&str; 12] = [
    "the database system is shutting down",
    "das Datenbanksystem fährt herunter",
    "el sistema de base de datos está apagándose",
    "le système de base de données s'arrête",
    "il database si sta spegnendo",
    "データベースシステムはシャットダウンしています",
    "მონაცემთა ბაზის სისტემა ითიშება",
    "데이터베이스 시스템이 중지 중입니다",
    "система баз данных останавливается",
    "databassystemet stänger ner",
    "система бази даних завершує роботу",
    "数据库系统停止中",
];

/// What an error says of the server that sent it as its first answer.
pub fn of_error(error: ServerError) -> ProbeAnswer {
    let is_one_of = |texts: &[&str]| texts.contains(&&*error.message);
    match &*error.sqlstate {
        TOO_MANY_CONNECTIONS => ProbeAnswer::TooManyConnections(error),
        ADMIN_SHUTDOWN => ProbeAnswer::ShuttingDown(error),
        CANNOT_CONNECT_NOW if is_one_of(&STARTING_UP) => ProbeAnswer::StartingUp(error),
        CANNOT_CONNECT_NOW if is_one_of(&SHUTTING_DOWN) => ProbeAnswer::ShuttingDown(error),
        state if has_class(state, &OF_A_RUNNING_SERVER) => {
            ProbeAnswer::Accepting(Acceptance::Error(error))
        }
        // Also what a connection pool says of a server behind it (08P01).
        _ => ProbeAnswer::NotAccepting(error),
    }
}

fn has_class(sqlstate: &str, classes: &[&str]) -> bool {
    sqlstate
        .get(..2)
        .is_some_and(|class| classes.contains(&class))
}

/// The fields of an `ErrorResponse` that we keep; none if they cannot be read or
/// it has no SQLSTATE, which every server since 7.4 sends.
pub fn read(mut fields: ErrorFields<'_>) -> Option<ServerError> {
    use fallible_iterator::FallibleIterator as _;
    let (mut severity, mut localized) = (None, None);
    let (mut sqlstate, mut message, mut detail) = (None, None, None);
    while let Some(field) = fields.next().ok()? {
        let kept = match field.type_() {
            b'V' => &mut severity,
            b'S' => &mut localized,
            b'C' => &mut sqlstate,
            b'M' => &mut message,
            b'D' => &mut detail,
            _ => continue,
        };
        *kept = Some(printable(field.value_bytes()));
    }
    Some(ServerError {
        severity: severity.or(localized)?,
        sqlstate: sqlstate.filter(|code: &Rc<str>| is_sqlstate(code))?,
        message: message?,
        detail,
    })
}

/// An error in the form before 7.4, which the postmaster still takes when it has
/// no memory for a process: `E`, a text, a zero byte or the end.
pub fn read_old(bytes: &[u8]) -> Option<ServerError> {
    let text = bytes.split(|b| *b == 0).next()?;
    let whole = text.len() > OLD_BYTES_MIN && may_be_old(text);
    whole.then(|| ServerError {
        severity: "FATAL".into(),
        sqlstate: "".into(),
        // Its words are not shown: so begins whatever says "E...", and any service may.
        message: "an error of the old form, as of a server that cannot fork".into(),
        detail: None,
    })
}

/// The shortest error of the old form, about: the postmaster's are sentences.
const OLD_BYTES_MIN: usize = 8;

/// Whether this can be the beginning of an error of the old form.
pub fn may_be_old(bytes: &[u8]) -> bool {
    let text = bytes.split(|b| *b == 0).next().unwrap_or_default();
    let is_text = |b: &u8| *b >= b' ' || b"\n\t".contains(b);
    text.first() == Some(&b'E') && text.len() <= PG_MESSAGE_BYTES_MAX && text.iter().all(is_text)
}

fn is_sqlstate(code: &str) -> bool {
    let fits = |b: u8| b.is_ascii_digit() || b.is_ascii_uppercase();
    code.len() == 5 && code.bytes().all(fits)
}

/// A server's text as it can be shown and kept: bounded, on one line.
pub fn printable(bytes: &[u8]) -> Rc<str> {
    // A cut in the midst of a character is no concern: it is lossy anyway.
    let bytes = bytes.get(..PG_TEXT_BYTES_MAX).unwrap_or(bytes);
    let text = String::from_utf8_lossy(bytes);
    let shown = text.trim().chars();
    shown
        .map(|c| if is_harmful(c) { '\u{fffd}' } else { c })
        .collect::<String>()
        .into()
}

/// Whether a character would move the cursor, or turn around the text beside it.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(sqlstate: &str, message: &str) -> &'static str {
        of_error(ServerError {
            severity: "FATAL".into(),
            sqlstate: sqlstate.into(),
            message: message.into(),
            detail: None,
        })
        .as_str()
    }

    #[test]
    fn the_code_decides_and_the_text_where_there_is_one_code_for_many() {
        for (sqlstate, message, expected) in [
            ("28000", "no pg_hba.conf entry for host ...", "accepting"),
            ("28P01", "password authentication failed", "accepting"),
            ("3D000", "database \"x\" does not exist", "accepting"),
            (
                "55000",
                "database \"x\" is not currently accepting",
                "accepting",
            ),
            ("42501", "permission denied for database", "accepting"),
            ("22023", "invalid value for parameter", "accepting"),
            ("0A000", "unsupported frontend protocol", "accepting"),
            ("53300", "sorry, too many clients", "too-many-connections"),
            ("57P03", "the database system is starting up", "starting-up"),
            ("57P03", "das Datenbanksystem startet", "starting-up"),
            (
                "57P03",
                "the database system is shutting down",
                "shutting-down",
            ),
            ("57P03", "数据库系统停止中", "shutting-down"),
            (
                "57P03",
                "the database system is in recovery mode",
                "not-accepting",
            ),
            (
                "57P03",
                "the database system is not accepting connections",
                "not-accepting",
            ),
            ("57P03", "words of a language unknown", "not-accepting"),
            ("57P01", "terminating connection", "shutting-down"),
            ("57P02", "crash of another server process", "not-accepting"),
            (
                "08P01",
                "pgbouncer cannot connect to server",
                "not-accepting",
            ),
            ("53200", "out of memory", "not-accepting"),
            ("XX000", "internal", "not-accepting"),
            ("", "could not fork new process", "not-accepting"),
        ] {
            assert_eq!(word(sqlstate, message), expected, "{sqlstate} {message}");
        }
    }

    #[test]
    fn a_text_is_bounded_and_on_one_line() {
        // S10
        let long = printable("ä\u{1b}[2J\n\u{202e}".repeat(100).as_bytes());
        assert!(long.len() <= 3 * PG_TEXT_BYTES_MAX);
        assert!(!long.chars().any(is_harmful));
        assert_eq!(&*printable(b" a\tb \xff\n"), "a\u{fffd}b \u{fffd}");
    }

    #[test]
    fn an_error_of_the_old_form_is_understood() {
        let old = read_old(b"Ecould not fork new process for connection: no\0");
        assert_eq!(
            &*old.unwrap().message,
            "an error of the old form, as of a server that cannot fork"
        );
        assert_eq!(read_old(b"E\0\0\0\x10SFATAL"), None);
        assert_eq!(read_old(b"HTTP/1.1 400"), None);
    }
}
