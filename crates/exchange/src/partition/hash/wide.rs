//! Loops over many numbers, compiled for the registers that the machine has.
//!
//! What they compute is the same everywhere: only whole numbers, no order.

/// Writes what `of` makes of each value.
#[allow(unsafe_code, reason = "the features of a machine are known when it runs")]
pub(super) fn map<T: Copy, U>(from: &[T], to: &mut [U], of: impl Fn(T) -> U) {
    #[cfg(target_arch = "x86_64")]
    {
        let has_512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        if has_512 {
            // SAFETY: the machine has all features of the function.
            return unsafe { map_512(from, to, of) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the machine has the feature of the function.
            return unsafe { map_256(from, to, of) };
        }
    }
    each(from, to, of);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
fn map_512<T: Copy, U>(from: &[T], to: &mut [U], of: impl Fn(T) -> U) {
    each(from, to, of);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn map_256<T: Copy, U>(from: &[T], to: &mut [U], of: impl Fn(T) -> U) {
    each(from, to, of);
}

#[inline(always)]
fn each<T: Copy, U>(from: &[T], to: &mut [U], of: impl Fn(T) -> U) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = of(*from);
    }
}

#[cfg(test)]
mod tests {
    use super::super::mix;

    #[test]
    fn every_width_gives_the_same() {
        let from: Vec<u64> = (0..1_001).map(mix).collect();
        let (mut plain, mut found) = (vec![0; 1_001], vec![0; 1_001]);
        super::each(&from, &mut plain, mix);
        super::map(&from, &mut found, mix);
        assert_eq!(plain, found);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            found.fill(0);
            #[allow(unsafe_code, reason = "what the function is for")]
            // SAFETY: the machine has the feature of the function.
            unsafe {
                super::map_256(&from, &mut found, mix);
            }
            assert_eq!(plain, found);
        }
    }
}
