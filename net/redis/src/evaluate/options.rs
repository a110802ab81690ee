//! The options of SET, GETEX and EXPIRE.

use super::{Context, integer};
use crate::answer;
use crate::call::Call;
use crate::rows::{Known, Stop, error};
use crate::time::{self, Expiry};

/// What a write does about the expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// As of a new key.
    Fresh,
    Keep,
    Never,
    Until(Expiry),
}

/// When SET may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Always,
    IfMissing,
    IfPresent,
}

/// Options of SET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SetOptions {
    pub(super) condition: Condition,
    pub(super) returns_old: bool,
    pub(super) lifetime: Lifetime,
}

impl SetOptions {
    pub(super) fn of(call: &Call, context: &Context) -> Known<Self> {
        let mut options = Self {
            condition: Condition::Always,
            returns_old: false,
            lifetime: Lifetime::Fresh,
        };
        let mut at = 3;
        while at < call.count() {
            let word = call.argument(at).to_ascii_uppercase();
            let is_first_lifetime = options.lifetime == Lifetime::Fresh;
            match &word[..] {
                b"NX" if options.condition != Condition::IfPresent => {
                    options.condition = Condition::IfMissing
                }
                b"XX" if options.condition != Condition::IfMissing => {
                    options.condition = Condition::IfPresent
                }
                b"GET" => options.returns_old = true,
                b"KEEPTTL" if is_first_lifetime => options.lifetime = Lifetime::Keep,
                _ if is_first_lifetime => {
                    options.lifetime = timed(call, at, &word, context)?;
                    at += 1;
                }
                _ => return Err(error(answer::SYNTAX)),
            }
            at += 1;
        }
        Ok(options)
    }
}

/// The only option of GETEX.
pub(super) fn of_getex(call: &Call, context: &Context) -> Known<Lifetime> {
    let word = call.argument(2).to_ascii_uppercase();
    match (call.count(), &word[..]) {
        (2, _) => Ok(Lifetime::Keep),
        (3, b"PERSIST") => Ok(Lifetime::Never),
        (4, _) => timed(call, 2, &word, context),
        _ => Err(error(answer::SYNTAX)),
    }
}

/// `EX seconds` and its like, at `at`.
fn timed(call: &Call, at: usize, word: &[u8], context: &Context) -> Known<Lifetime> {
    let (unit_ms, is_absolute) = match word {
        b"EX" => (1000, false),
        b"PX" => (1, false),
        b"EXAT" => (1000, true),
        b"PXAT" => (1, true),
        _ => return Err(error(answer::SYNTAX)),
    };
    if at + 1 >= call.count() {
        return Err(error(answer::SYNTAX));
    }
    let amount = integer(call, at + 1)?;
    lifetime(call, amount, unit_ms, is_absolute, context)
}

/// The lifetime for `amount` units, which must lie above 0 and not beyond all times.
pub(super) fn lifetime(
    call: &Call,
    amount: i64,
    unit_ms: i64,
    is_absolute: bool,
    context: &Context,
) -> Known<Lifetime> {
    let at_ms = absolute(amount, unit_ms, is_absolute, context).filter(|_| amount > 0);
    match at_ms {
        Some(at_ms) => Ok(Lifetime::Until(time::expiry(at_ms, context.now_ms))),
        None => Err(invalid_expire(call)),
    }
}

/// Unix milliseconds.
pub(super) fn absolute(
    amount: i64,
    unit_ms: i64,
    is_absolute: bool,
    context: &Context,
) -> Option<i64> {
    let base = if is_absolute {
        0
    } else {
        i64::try_from(context.now_ms).ok()?
    };
    amount.checked_mul(unit_ms)?.checked_add(base)
}

pub(super) fn invalid_expire(call: &Call) -> Stop {
    Stop::Error(answer::failure(format!(
        "ERR invalid expire time in '{}' command",
        call.spec.name
    )))
}

/// Conditions of EXPIRE and its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct ExpireOptions {
    /// Only without an expiry, or only with one.
    pub(super) if_none: bool,
    pub(super) if_any: bool,
    /// Only to a later time, or only to an earlier one.
    pub(super) if_later: bool,
    pub(super) if_earlier: bool,
}

impl ExpireOptions {
    pub(super) fn of(call: &Call) -> Known<Self> {
        let mut options = Self::default();
        for at in 3..call.count() {
            match &call.argument(at).to_ascii_uppercase()[..] {
                b"NX" => options.if_none = true,
                b"XX" => options.if_any = true,
                b"GT" => options.if_later = true,
                b"LT" => options.if_earlier = true,
                _ => {
                    let word = String::from_utf8_lossy(call.argument(at)).into_owned();
                    return Err(Stop::Error(answer::failure(format!(
                        "ERR Unsupported option {word}"
                    ))));
                }
            }
        }
        if options.if_none && (options.if_any || options.if_later || options.if_earlier) {
            return Err(error(NX_ALONE));
        }
        if options.if_later && options.if_earlier {
            return Err(error(GT_OR_LT));
        }
        Ok(options)
    }
}

const NX_ALONE: &str = "ERR NX and XX, GT or LT options at the same time are not compatible";
const GT_OR_LT: &str = "ERR GT and LT options at the same time are not compatible";
