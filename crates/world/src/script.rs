//! What happens in a world, drawn step by step from its seed.
//!
//! In:    random numbers
//! Out:   actions and pauses
//! Calls: run
//! Holds: the draw depends on the seed alone; what an action meets depends on the world, which repeats too
//! Upstream: none

use std::time::Duration;

use kubelet_act::frame::faults::FaultPoint;
use testkit::faults::FaultRates;
use testkit::prng::Prng;

use crate::pods::at;

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A manifest appears.
    Add,
    /// The manifest of a pod goes.
    Remove,
    /// A manifest that went comes back as it was.
    BringBack,
    /// Another image in a pod of the same UID.
    EditImage,
    /// Another pod under the same name.
    Replace,
    /// The source delivers what it delivered before.
    Resend,
    /// The kubelet is killed now.
    CrashKubelet,
    /// The kubelet dies at the nth pass of a point.
    CrashAt(FaultPoint, u32),
    /// The kubelet is started again.
    StartKubelet,
    /// The runtime is gone for a while; containers run on.
    CrashRuntime(Duration),
    /// All connections drop.
    Cut,
    /// A container's process ends from outside.
    KillContainer,
    /// A sandbox' process ends from outside.
    KillSandbox,
    /// The machine goes down with all on it, and comes back.
    Reboot(Duration),
    /// The runtime's network is not ready for a while, or is again.
    Network,
    /// Somebody sets the node's wall clock on or back, seconds.
    SetClock(i64),
    /// The disk under the journal fills up, or has room again.
    DiskFull,
    /// A worker panics at the nth pass of a point.
    PanicAt(FaultPoint, u32),
    /// The second source names a pod that the first names, too.
    Share,
    /// Sources that were silent speak.
    Speak,
    /// Nothing.
    Wait,
}

impl Action {
    /// Under which it is counted; `None` for what is no fault.
    pub fn fault(&self) -> Option<&'static str> {
        Some(match self {
            Self::CrashKubelet => "kubelet killed",
            Self::CrashRuntime(_) => "runtime down",
            Self::Cut => "connections cut",
            Self::KillContainer => "container killed",
            Self::KillSandbox => "sandbox killed",
            Self::Reboot(_) => "reboot",
            Self::Network => "network flip",
            Self::SetClock(by) if *by < 0 => "clock set back",
            Self::SetClock(_) => "clock set on",
            _ => return None,
        })
    }
}

/// The next action.
pub fn action(random: &mut Prng, kubelet_is_up: bool) -> Action {
    if !kubelet_is_up && random.chance(5_000) {
        return Action::StartKubelet;
    }
    match random.below(116) {
        0..=13 => Action::Add,
        14..=22 => Action::Remove,
        23..=29 => Action::BringBack,
        30..=37 => Action::EditImage,
        38..=43 => Action::Replace,
        44..=46 => Action::Resend,
        47..=52 => Action::CrashKubelet,
        53..=67 => {
            let point = FaultPoint::ALL[at(random, FaultPoint::ALL.len())];
            let most = if random.chance(5_000) { 3 } else { 20 };
            Action::CrashAt(point, u32::try_from(random.below(most)).unwrap_or(0))
        }
        68..=71 => Action::CrashRuntime(random.duration(Duration::from_secs(90))),
        72..=74 => Action::Cut,
        75..=80 => Action::KillContainer,
        81..=83 => Action::KillSandbox,
        84..=85 => Action::Reboot(random.duration(Duration::from_secs(60))),
        86..=88 => Action::Network,
        89..=93 => Action::SetClock(clock_change(random)),
        94..=96 => Action::DiskFull,
        97..=101 => {
            let point = FaultPoint::OF_WORKERS[at(random, FaultPoint::OF_WORKERS.len())];
            Action::PanicAt(point, u32::try_from(random.below(6)).unwrap_or(0))
        }
        102..=104 => Action::Share,
        105..=107 => Action::Speak,
        _ => Action::Wait,
    }
}

/// From a minute to a year, in either direction.
fn clock_change(random: &mut Prng) -> i64 {
    let most: u64 = [60, 900, 3_600, 86_400, 31_536_000][at(random, 5)];
    let by = i64::try_from(1 + random.below(most)).unwrap_or(1);
    if random.chance(5_000) { by } else { -by }
}

/// How long a source is silent after the kubelet has started; the last is until it is told to speak.
pub fn silence(random: &mut Prng) -> Option<Duration> {
    match random.below(10) {
        0..=4 => Some(Duration::ZERO),
        5 | 6 => Some(random.duration(Duration::from_secs(5))),
        7 | 8 => Some(random.duration(Duration::from_secs(200))),
        _ => None,
    }
}

/// The pause before the next action.
pub fn pause(random: &mut Prng) -> Duration {
    let longest = match random.below(10) {
        0..=2 => 20,
        3..=5 => 1_500,
        6..=8 => 20_000,
        _ => 150_000,
    };
    random.duration(Duration::from_millis(longest))
}

/// How the runtime's calls go wrong in this world.
pub fn rates(random: &mut Prng) -> FaultRates {
    let longest_delay = random.duration(Duration::from_secs(30));
    let longest_crash = random.duration(Duration::from_secs(60));
    let mut rate = |most: u64| u16::try_from(random.below(most)).unwrap_or(0);
    let rates = match rate(4) {
        0 => FaultRates::none(),
        1 => FaultRates::uniform(rate(60)),
        2 => FaultRates {
            fail_before: rate(800),
            lose_answer: rate(800),
            twice: rate(800),
            ..FaultRates::none()
        },
        _ => FaultRates {
            cut: rate(150),
            crash: rate(60),
            hang: rate(100),
            ..FaultRates::uniform(rate(400))
        },
    };
    FaultRates {
        longest_delay,
        longest_crash,
        ..rates
    }
}
