//! What is done at random: the same with the same seed.

use std::time::Duration;

use sheaf_drivers::Disturbance;

/// One after another.
pub(super) struct Choices {
    names: Vec<String>,
    every: Duration,
    state: u64,
}

/// What is done, and how long it is waited before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) pause: Duration,
    pub(super) name: String,
    pub(super) how: Disturbance,
}

impl Choices {
    /// `names` are those of instances; their order does not matter.
    pub(super) fn new(mut names: Vec<String>, seed: u64, every: Duration) -> Self {
        names.sort();
        Choices { names, every, state: seed }
    }

    pub(super) fn next(&mut self) -> Step {
        let most = u64::try_from(self.every.as_millis()).unwrap_or(u64::MAX).max(1);
        let pause = self.between(most.div_ceil(4), most);
        let at = self.below(self.names.len() as u64);
        let name = usize::try_from(at).ok().and_then(|at| self.names.get(at).cloned());
        let how = match self.below(4) {
            0 | 1 => Disturbance::Kill,
            2 => Disturbance::Pause { time: self.between(200, 2_000) },
            _ => Disturbance::Slow { delay: self.between(5, 50), time: self.between(500, 3_000) },
        };
        Step { pause, name: name.unwrap_or_default(), how }
    }

    fn between(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most - least + 1))
    }

    fn below(&mut self, end: u64) -> u64 {
        self.random() % end.max(1)
    }

    /// The generator of Steele, Lea and Flood: "Fast splittable pseudorandom number generators"
    /// (2014), in the variant that is known as splitmix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(names: &[&str], seed: u64) -> Vec<Step> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let mut choices = Choices::new(names, seed, Duration::from_secs(4));
        (0..200).map(|_| choices.next()).collect()
    }

    #[test]
    fn the_same_seed_does_the_same_and_another_one_something_else() {
        assert_eq!(steps(&["a", "b", "c"], 7), steps(&["c", "a", "b"], 7));
        assert_ne!(steps(&["a", "b", "c"], 7), steps(&["a", "b", "c"], 8));
    }

    #[test]
    fn every_harm_comes_to_everybody_in_its_limits() {
        let all = steps(&["a", "b"], 1);
        for name in ["a", "b"] {
            let of = |kind: fn(&Disturbance) -> bool| {
                all.iter().any(|step| step.name == name && kind(&step.how))
            };
            assert!(of(|how| *how == Disturbance::Kill), "{name}");
            assert!(of(|how| matches!(how, Disturbance::Pause { .. })), "{name}");
            assert!(of(|how| matches!(how, Disturbance::Slow { .. })), "{name}");
        }
        let pauses = Duration::from_secs(1)..=Duration::from_secs(4);
        assert!(all.iter().all(|step| pauses.contains(&step.pause)));
    }

    #[test]
    fn the_generator_is_the_one_that_it_is_said_to_be() {
        let mut choices = Choices::new(Vec::new(), 1_234_567, Duration::ZERO);
        let first: Vec<u64> = (0..3).map(|_| choices.random()).collect();
        let known =
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(first, known);
    }
}
