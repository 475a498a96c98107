/// Compiles plain loops once for each instruction set and picks one at run time.
///
/// `vectorised! { fn name(arguments) -> R { body } }` defines `name(isa, arguments)`. The compiler turns the loops of the
/// body into vector code; what the body calls must be `#[inline(always)]` to become part of it. Loops over independent
/// elements give the same bits on every instruction set, since floating-point operations are neither fused nor reordered.
macro_rules! vectorised {
    ($(
        $(#[$attribute:meta])*
        $visible:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block
    )*) => {$(
        $(#[$attribute])*
        $visible fn $name(isa: $crate::device::Isa, $($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            fn body($($argument: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
            fn avx512($($argument: $type),*) $(-> $result)? {
                body($($argument),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($argument: $type),*) $(-> $result)? {
                body($($argument),*)
            }

            match isa {
                // SAFETY: an `Isa` is never above what the processor was found to have.
                #[cfg(target_arch = "x86_64")]
                $crate::device::Isa::Avx512 | $crate::device::Isa::Avx512Bf16 => unsafe { avx512($($argument),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::device::Isa::Avx2 => unsafe { avx2($($argument),*) },
                _ => body($($argument),*),
            }
        }
    )*};
}
