//! What the processor keeps for a thread, reached by a few bytes of machine code.

use crate::case::Case;
use crate::case::Way::{Refork, Rewind};
use crate::case::case;

#[rustfmt::skip]
pub const CASES: &[Case] = &[
    case("the rounding of numbers", Rewind, "libm.fesetround(0x800)", "seen += [libm.fegetround(), (1.0 / 3.0).hex()]"),
    case("exceptions of numbers", Rewind, "libm.feraiseexcept(0x3d)", "seen.append(libm.fetestexcept(0x10))"),
    // ldmxcsr [rdi]: numbers near zero are zero.
    case("numbers near zero", Rewind, "run('0fae17c3', struct.pack('<I', 0x9fc0))", "seen.append((5e-324 * 1.0 == 0.0, run('0fae1fc3', bytes(4))[:4][1] & 0x80))"),
    // fldcw [rdi]: the old unit computes with less precision.
    case("the precision of the old unit", Rewind, "run('d92fc3', struct.pack('<H', 0x007f))", "seen.append(run('d93fc3', bytes(2))[:2].hex())"),
    // movq mm6, [rdi], and back: eight bytes that hardly any code ever touches.
    case("a key in a register of the old unit", Rewind, "run('0f6f37c3', b'secretly')", "seen.append(b'secretly'.hex() in run('0f7f37c3', bytes(8)).hex())"),
    // Every vector register is filled, and what is left of it seen at the next call.
    case("a key in vector registers", Rewind, "fill_vectors(b'0123456789abcdef')", "seen.append(b'0123456789abcdef' in vectors())"),
    // pushfq; or dword [rsp], 1<<21; popfq; ret, and pushfq; pop rax; mov [rdi], rax; ret.
    case("a flag of the processor", Rewind, "run('9c810c24000020009dc3', b'')", "seen.append(bool(run('9c58488907c3', bytes(8))[2] & 0x20))"),
    // The same with the flag of a nested task, 1<<14.
    case("another flag of the processor", Rewind, "run('9c810c24004000009dc3', b'')", "seen.append(bool(run('9c58488907c3', bytes(8))[1] & 0x40))"),
    case("the base of a segment", Rewind, "assert call('arch_prctl', 0x1001, 0x5ec0000) == 0", "
base = ctypes.c_ulong()
call('arch_prctl', 0x1004, ctypes.byref(base))
seen.append(base.value)"),
    // Not every kernel has these two; that they were asked for is enough.
    case("a local descriptor table", Refork(&["registers"]), "call('modify_ldt', 1, struct.pack('<IIII', 3, 0x1000, 0xfffff, 0x51), 16); string.tried = 1", "seen.append(hasattr(string, 'tried'))"),
    case("a segment of a thread's", Refork(&["registers"]), "call('set_thread_area', ctypes.create_string_buffer(struct.pack('<IIII', 0xffffffff, 0x1000, 0xfffff, 0x51))); string.tried = 1", "seen.append(hasattr(string, 'tried'))"),
    case("a switch of the processor's", Refork(&["registers"]), "call('arch_prctl', 0x1012, 1); string.tried = 1", "seen.append(hasattr(string, 'tried'))"),
];
