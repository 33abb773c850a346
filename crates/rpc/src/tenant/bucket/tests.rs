use proptest::prelude::*;

use super::*;

const MS: Nanos = 1_000_000;
const SECOND: Nanos = 1000 * MS;

/// How often replicas merge.
const EVERY: Nanos = 100 * MS;

fn quota(per_second: u32, burst: u32) -> Quota {
    let some = |number| NonZeroU32::new(number).expect("not 0");
    Quota::new(some(per_second), some(burst))
}

/// The tally, as the script keeps it.
#[derive(Default)]
struct Tally(Option<(Nanos, Nanos)>);

impl Tally {
    fn add(&mut self, share: Share, now: Nanos) -> Nanos {
        let held = self.0.map(|(left, at)| left - (now - at) + share.used);
        let left = held.map_or(share.own, |held| held.max(share.own));
        self.0 = Some((left, now));
        left
    }
}

/// Replicas that share a tally, one step a millisecond.
struct Replicas {
    quota: Quota,
    tally: Tally,
    now: Nanos,
    all: Vec<Replica>,
    /// When calls were admitted.
    admitted: Vec<Nanos>,
    /// Whether the tally can be reached.
    up: bool,
}

struct Replica {
    bucket: Bucket,
    /// When it merges next.
    next: Nanos,
    /// A merge under way: when it began, what came of it, when that is known.
    merge: Option<(Nanos, Option<Nanos>, Nanos)>,
    /// How long a message to the tally, or back, takes.
    way: Nanos,
    /// The share on its way there.
    going: Option<(Share, Nanos)>,
}

impl Replicas {
    fn new(quota: Quota, ways: &[Nanos]) -> Self {
        let count = Nanos::try_from(ways.len()).expect("few");
        let replica = |(at, way): (Nanos, &Nanos)| Replica {
            bucket: Bucket::default(),
            next: at * EVERY / count,
            merge: None,
            way: way * MS,
            going: None,
        };
        let all = (0..count).zip(ways).map(replica).collect();
        Self { quota, tally: Tally::default(), now: 0, all, admitted: Vec::new(), up: true }
    }

    fn call(&mut self, at: usize) -> Result<(), Duration> {
        self.all[at].bucket.admit(self.quota, self.now)?;
        self.admitted.push(self.now);
        Ok(())
    }

    fn pass(&mut self, time: Nanos) {
        let until = self.now + time;
        while self.now < until {
            self.now = (self.now + MS).min(until);
            for replica in &mut self.all {
                replica.step(&mut self.tally, self.now, self.up);
            }
        }
    }

    /// The most calls above the rate in any stretch of time.
    fn most_above(&self) -> Nanos {
        // With each call one cost is owed, and time pays: the most that is ever owed.
        let (mut owed, mut last, mut most) = (0, 0, 0);
        for at in &self.admitted {
            owed = (owed - (at - last)).max(0) + self.quota.cost;
            (last, most) = (*at, most.max(owed));
        }
        most
    }

    /// What the documents say: the burst, and for each further replica what it admits
    /// before it learns of the others; and one that was promised, each.
    fn bound(&self, unknown: Nanos) -> Nanos {
        let count = Nanos::try_from(self.all.len()).expect("few");
        self.quota.burst
            + (count - 1) * (self.quota.burst + unknown + self.quota.cost)
            + self.quota.cost
    }
}

impl Replica {
    fn step(&mut self, tally: &mut Tally, now: Nanos, up: bool) {
        if now >= self.next && self.merge.is_none() {
            self.next = now + EVERY;
            if let Some(share) = self.bucket.begin(now) {
                self.going = Some((share, now + self.way));
                self.merge = Some((now, None, now + 2 * self.way));
            }
        }
        if let Some((share, there)) = self.going
            && now >= there
        {
            self.going = None;
            let left = up.then(|| tally.add(share, now));
            self.merge = self.merge.map(|(began, _, back)| (began, left, back));
        }
        if let Some((began, left, back)) = self.merge
            && now >= back
            && self.going.is_none()
        {
            self.merge = None;
            match left {
                Some(left) => self.bucket.merged(began, left, now),
                None => self.bucket.failed(),
            }
        }
    }
}

/// Two merge intervals, and the ways of the merges.
fn unknown(ways: &[Nanos]) -> Nanos {
    2 * EVERY + 4 * ways.iter().max().expect("some") * MS + 2 * MS
}

prop_compose! {
    /// Bursts and pauses: who calls, how often, and the time to the next.
    fn traffic()(calls in prop::collection::vec((0..4_usize, 0..60_u32, 0..400_i64), 1..60))
        -> Vec<(usize, u32, Nanos)> { calls }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn replicas_together_admit_no_more_than_the_limit_and_the_slack(
        per_second in 1..500_u32,
        burst in 1..200_u32,
        ways in prop::collection::vec(0..30_i64, 1..5),
        traffic in traffic(),
        retries in any::<bool>(),
    ) {
        let mut replicas = Replicas::new(quota(per_second, burst), &ways);
        for (at, calls, pause) in traffic {
            for _ in 0..calls {
                let refused = replicas.call(at % ways.len()).is_err();
                if refused && !retries {
                    break;
                }
            }
            replicas.pass(pause * MS);
        }
        prop_assert!(replicas.most_above() <= replicas.bound(unknown(&ways)));
    }

    #[test]
    fn a_call_repeated_after_its_wait_is_admitted_where_it_was_refused(
        per_second in 1..500_u32,
        burst in 1..200_u32,
        ways in prop::collection::vec(0..30_i64, 1..5),
        traffic in traffic(),
    ) {
        let mut replicas = Replicas::new(quota(per_second, burst), &ways);
        for (at, calls, pause) in traffic {
            let at = at % ways.len();
            for _ in 0..calls {
                if let Err(wait) = replicas.call(at) {
                    replicas.pass(Nanos::try_from(wait.as_nanos()).expect("short"));
                    prop_assert_eq!(replicas.call(at), Ok(()));
                    break;
                }
            }
            replicas.pass(pause * MS);
        }
    }

    #[test]
    fn after_a_quiet_moment_it_is_admitted_by_any_replica(
        per_second in 1..500_u32,
        burst in 1..200_u32,
        ways in prop::collection::vec(0..30_i64, 2..5),
        traffic in traffic(),
    ) {
        let mut replicas = Replicas::new(quota(per_second, burst), &ways);
        for (at, calls, pause) in traffic {
            let (here, there) = (at % ways.len(), (at + 1) % ways.len());
            for _ in 0..calls {
                let _admitted_or_not = replicas.call(here);
            }
            // Every replica has told what it admitted, and this one has heard it.
            replicas.pass(unknown(&ways) + pause * MS);
            if let Err(wait) = replicas.call(here) {
                replicas.pass(Nanos::try_from(wait.as_nanos()).expect("short"));
                prop_assert_eq!(replicas.call(there), Ok(()));
            }
        }
    }
}

#[test]
fn replicas_under_load_share_the_whole_rate() {
    for count in [1, 2, 3, 8] {
        let mut replicas = Replicas::new(quota(200, 100), &vec![1; count]);
        for _ in 0..20_000 {
            for at in 0..count {
                let _admitted_or_not = replicas.call(at);
            }
            replicas.pass(MS);
        }
        // 200 a second for 20 s.
        let admitted = replicas.admitted.len();
        assert!(admitted >= 3900, "{count}: {admitted}");
        let slack = (replicas.bound(unknown(&[1])) / replicas.quota.cost).unsigned_abs();
        assert!(admitted <= 4000 + usize::try_from(slack).expect("few"), "{count}: {admitted}");
    }
}

#[test]
fn without_the_tally_each_goes_on_alone_and_nobody_pays_for_that_afterwards() {
    let mut replicas = Replicas::new(quota(100, 50), &[1, 1, 1]);
    replicas.up = false;
    let saturate = |replicas: &mut Replicas, time: Nanos| {
        let before = replicas.admitted.len();
        for _ in 0..time / MS {
            for at in 0..3 {
                let _admitted_or_not = replicas.call(at);
            }
            replicas.pass(MS);
        }
        replicas.admitted.len() - before
    };
    let alone = saturate(&mut replicas, 20 * SECOND);
    assert!((6000..=6200).contains(&alone), "three times the whole limit: {alone}");
    replicas.up = true;
    let together = saturate(&mut replicas, 20 * SECOND);
    assert!((1850..=2250).contains(&together), "the limit: {together}");
}

#[test]
fn alone_it_is_exact() {
    let (quota, mut bucket) = (quota(3, 2), Bucket::default());
    assert_eq!(bucket.admit(quota, 0), Ok(()));
    assert_eq!(bucket.admit(quota, 0), Ok(()));
    for call in 1..100 {
        let before = bucket.admit(quota, (call - 1) * quota.cost).expect_err("refused");
        assert_eq!(before.as_nanos(), quota.cost.unsigned_abs().into());
        assert!(bucket.admit(quota, call * quota.cost - 1).is_err());
        assert_eq!(bucket.admit(quota, call * quota.cost), Ok(()));
    }
    assert!(!bucket.is_idle(100 * quota.cost, false));
    assert!(bucket.is_idle(101 * quota.cost, false));
    assert!(!bucket.is_idle(101 * quota.cost, true), "others were not told yet");
}
