/* Nothing → what Rust's standard library asks of C, in fewer bytes than where it is mostly from, or at all.
 *
 * Programs for boards carry no tables that tell how a stack is unwound, and no names: a backtrace of one has nothing to print,
 * but would bring an unwinder and, with the function that names threads, the C library's printf: 30 KB. Where a fault of theirs
 * is, is told by what is included here, or by a panic's text. The first names are those of the Itanium C++ ABI, exception
 * handling, level I, and of the Arm EHABI (IHI 0038). */

#include <stddef.h>

/* There is no frame to look at. _URC_END_OF_STACK of the ABI. */
int _Unwind_Backtrace(void) { return 5; }

/* Nothing has a frame to ask these about, and nothing throws. */
#define NEVER(name) void name(void) { __builtin_trap(); }
NEVER(_Unwind_DeleteException)
NEVER(_Unwind_FindEnclosingFunction)
NEVER(_Unwind_GetCFA)
NEVER(_Unwind_GetDataRelBase)
NEVER(_Unwind_GetGR)
NEVER(_Unwind_GetIP)
NEVER(_Unwind_GetIPInfo)
NEVER(_Unwind_GetLanguageSpecificData)
NEVER(_Unwind_GetRegionStart)
NEVER(_Unwind_GetTextRelBase)
NEVER(_Unwind_RaiseException)
NEVER(_Unwind_Resume)
NEVER(_Unwind_SetGR)
NEVER(_Unwind_SetIP)
#ifdef __arm__
NEVER(_Unwind_VRS_Get)
NEVER(_Unwind_VRS_Set)
NEVER(__gnu_unwind_frame)
NEVER(__aeabi_unwind_cpp_pr0)
NEVER(__aeabi_unwind_cpp_pr1)
NEVER(__aeabi_unwind_cpp_pr2)
#endif

/* Rust names no thread but the one that runs, which the kernel does by itself (PR_SET_NAME of prctl(2), 16 bytes with their end);
 * the C library can name others, for which it prints a path. */
int prctl(int option, ...);
int pthread_setname_np(void *thread, const char *name) { return prctl(15, name); }

/* What sorts for the C library: the few addresses of a name. Its own way, for any number of anything, is 6 KB. */
void qsort(void *all, size_t count, size_t width, int (*compare)(const void *, const void *)) {
    char *from = all;
    for (char *next = from + width; count-- > 1; next += width)
        for (char *at = next; at > from && compare(at - width, at) > 0; at -= width)
            for (size_t i = 0; i < width; i++) {
                char byte = at[i];
                at[i] = at[i - width];
                at[i - width] = byte;
            }
}

/* The version, where a panic has no text. */
#ifdef FAULTS_OF
#include "fault.c"
#endif

#if defined(__arm__) && __ARM_ARCH == 6
/* Thumb code of ARMv6 cannot change memory in one step by itself, so the compiler calls these for it (the names are those of
 * GCC's manual, "Legacy __sync built-in functions"); they are Arm code, which can. All are full barriers. */
#define CALLED(name) __asm__(name)
#define CHANGES(width, type, word, operation)                                                                             \
    type word##_##width(type *place, type by) CALLED("__sync_" #word "_" #width);                                         \
    type word##_##width(type *place, type by) { return operation(place, by, __ATOMIC_SEQ_CST); }
#define SWAPS(width, type)                                                                                                \
    type val_compare_and_swap_##width(type *, type, type) CALLED("__sync_val_compare_and_swap_" #width);                  \
    type val_compare_and_swap_##width(type *place, type before, type after) {                                             \
        __atomic_compare_exchange_n(place, &before, after, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                        \
        return before;                                                                                                    \
    }
#define ALL(width, type)                                                                                                  \
    SWAPS(width, type)                                                                                                    \
    CHANGES(width, type, lock_test_and_set, __atomic_exchange_n)                                                          \
    CHANGES(width, type, fetch_and_add, __atomic_fetch_add)                                                               \
    CHANGES(width, type, fetch_and_sub, __atomic_fetch_sub)                                                               \
    CHANGES(width, type, fetch_and_and, __atomic_fetch_and)                                                               \
    CHANGES(width, type, fetch_and_or, __atomic_fetch_or)                                                                 \
    CHANGES(width, type, fetch_and_xor, __atomic_fetch_xor)
ALL(1, unsigned char)
ALL(2, unsigned short)
ALL(4, unsigned int)
ALL(8, unsigned long long)
void synchronize(void) CALLED("__sync_synchronize");
void synchronize(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
#endif
