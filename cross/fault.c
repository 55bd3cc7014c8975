/* A fault of the program's own → one line on standard error that tells its place, and the end that an abort is.
 *
 * A panic in these programs is one instruction that no processor takes: the texts of all places where one could be, and what makes
 * them, were a twentieth of a program. The kernel says where it was met, and cross/where turns that into functions, files and lines,
 * by the source that the program was built of. Whoever started the program sees what a panic is elsewhere: SIGABRT has ended it. */
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

/* Callers that are told, at most: the nearest ones say how the place was come to. */
#define CALLERS 12
/* Words above the stack's end in which they are looked for, and how many at once: a stack may have no more left on it. */
#define WORDS 1024
#define AT_ONCE 16
/* Bytes of the line: 120 of its words, twice the program's name, and 17 of each address. */
#define LINE 768
/* Bytes of the name that are told: a program is called what its starter likes. */
#define NAME 100

extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));
extern char *__progname;

/* Where the program's instructions are, and how far from where its file says. */
static struct {
    uintptr_t moved, from, below;
} code;

static void find_code(void) {
    const char *head = (const char *)&__ehdr_start;
    const ElfW(Phdr) *part = (const void *)(head + __ehdr_start.e_phoff);
    for (int i = 0; i < __ehdr_start.e_phnum; i++, part++) {
        if (part->p_type != PT_LOAD) continue;
        /* The first part begins with the file's head. */
        if (part->p_offset == 0) code.moved = (uintptr_t)head - part->p_vaddr;
        if (part->p_flags & PF_X) {
            code.from = code.moved + part->p_vaddr;
            code.below = code.from + part->p_filesz;
        }
    }
}

/* Which build it is: FNV-1a of all instructions. What tells their lines changes none of them. */
static uint32_t build(void) {
    uint32_t sum = 2166136261u;
    for (uintptr_t at = code.from; at < code.below; at++) sum = (sum ^ *(const uint8_t *)at) * 16777619u;
    return sum;
}

/* Whether a call returns there: whether it is behind an instruction that calls. What else is on a stack is mostly not. */
static int is_return(uintptr_t place) {
    /* The longest instruction that is looked for has 6 bytes. */
    if (place < code.from + 6 || place >= code.below) return 0;
#ifdef __x86_64__
    const uint8_t *end = (const uint8_t *)place;
    return end[-5] == 0xe8 || (end[-6] == 0xff && end[-5] == 0x15) || (end[-3] == 0xff && (end[-2] & 0xf8) == 0x50) ||
           (end[-2] == 0xff && (end[-1] & 0xf8) == 0xd0);
#elif defined(__aarch64__)
    if (place & 3) return 0;
    uint32_t before = *(const uint32_t *)(place - 4);
    return (before & 0xfc000000) == 0x94000000 || (before & 0xfffffc1f) == 0xd63f0000;
#else
    if (place & 1) {
        const uint16_t *end = (const uint16_t *)(place - 1);
        return ((end[-2] & 0xf800) == 0xf000 && (end[-1] & 0xc000) == 0xc000) || (end[-1] & 0xff87) == 0x4780;
    }
    if (place & 2) return 0;
    uint32_t before = *(const uint32_t *)(place - 4);
    return (before & 0x0f000000) == 0x0b000000 || (before & 0x0ffffff0) == 0x012fff30;
#endif
}

static char *text(char *to, const char *more) {
    size_t length = strnlen(more, NAME);
    memcpy(to, more, length);
    return to + length;
}

static char *number(char *to, uintptr_t value, int digits) {
    while (digits < (int)sizeof value * 2 && value >> (4 * digits)) digits++;
    while (digits--) *to++ = "0123456789abcdef"[value >> (4 * digits) & 15];
    return to;
}

static char *place(char *to, uintptr_t at) {
    *to++ = ' ';
    return number(to, at - code.moved, 1);
}

/* What came back of a write is less than a whole piece where the kernel finds no memory. */
static char *callers(char *to, uintptr_t stack, uintptr_t from) {
    int left = CALLERS, ends[2];
    if (is_return(from)) to = place(to, from), left--;
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK)) return to;
    for (int i = 0; i < WORDS / AT_ONCE; i++) {
        uintptr_t words[AT_ONCE];
        if (write(ends[1], (const void *)stack, sizeof words) != sizeof words) break;
        if (read(ends[0], words, sizeof words) != sizeof words) break;
        for (int j = 0; j < AT_ONCE; j++) {
            if (!left) return to;
            if (words[j] != from && is_return(words[j])) to = place(to, words[j]), left--;
        }
        stack += sizeof words;
    }
    return to;
}

/* Calls only what may be called at any moment: signal-safety(7). */
static void tell(int signal, siginfo_t *about, void *context) {
    static int telling;
    const struct sigaction none = {.sa_handler = SIG_DFL};
    if (about->si_code <= 0 && about->si_pid != getpid()) {
        /* Somebody else sent it, which tells of no fault. It comes once more as soon as this returns. */
        sigaction(signal, &none, 0);
        raise(signal);
        return;
    }
    if (__atomic_exchange_n(&telling, 1, __ATOMIC_SEQ_CST)) {
        /* Another thread is at it: this is more than it needs to make an end of all. */
        sleep(1);
    } else {
        const mcontext_t *at = &((const ucontext_t *)context)->uc_mcontext;
#ifdef __x86_64__
        uintptr_t pc = at->gregs[REG_RIP], stack = at->gregs[REG_RSP], from = 0;
#elif defined(__aarch64__)
        uintptr_t pc = at->pc, stack = at->sp, from = at->regs[30];
#else
        uintptr_t pc = at->arm_pc, stack = at->arm_sp, from = at->arm_lr;
#endif
        char line[LINE], *end = text(line, __progname);
        find_code();
        end = text(end, " " FAULTS_OF " ends by a fault of its own; its source tells where:");
        end = text(end, " cross/where --build ");
        end = number(end, build(), 8);
        *end++ = ' ';
        end = text(end, __progname);
        end = text(end, " " TARGET);
        end = callers(place(end, pc), stack, from);
        *end++ = '\n';
        /* Where that is closed or full, nothing more can be done. */
        if (write(2, line, end - line) < 0) {}
    }
    sigaction(SIGABRT, &none, 0);
    abort();
}

__attribute__((constructor)) static void listen(void) {
    const struct sigaction told = {.sa_sigaction = tell, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    /* What the compiler makes of a panic is one of the first two, by processor; what is out of memory aborts. */
    sigaction(SIGILL, &told, 0);
    sigaction(SIGTRAP, &told, 0);
    sigaction(SIGABRT, &told, 0);
}
