//! Rounds in turns.

/// Runs so many rounds of `kinds` steps, every other round in reverse: A B, B A.
/// What each step came to, by round and kind.
pub(crate) async fn interleave<T>(
    what: &str,
    rounds: usize,
    kinds: usize,
    mut step: impl AsyncFnMut(usize) -> T,
) -> Vec<Vec<T>> {
    let mut all = Vec::with_capacity(rounds);
    for round in 0..rounds {
        eprintln!("{what}: round {} of {rounds}", round + 1);
        let mut came_to: Vec<Option<T>> = (0..kinds).map(|_| None).collect();
        for at in 0..kinds {
            let kind = if round % 2 == 0 { at } else { kinds - 1 - at };
            came_to[kind] = Some(step(kind).await);
        }
        all.push(came_to.into_iter().flatten().collect());
    }
    all
}
