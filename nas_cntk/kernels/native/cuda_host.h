// Plays a CUDA grid on the CPU, so that gram.cu runs where there is no GPU: for tests, not for speed.
//
// Every thread of a block is a fiber. Blocks run one after the other; within a block each fiber runs until it meets a
// shuffle or a barrier, then the next one does, forwards or (to show races) backwards. At a meeting point the others are
// checked to be at the same one: all lanes of the warp at the same shuffle in the same line, all threads of the block at
// the same barrier. A thread that returns while others wait is an error, as is a shuffle of fewer than 32 lanes.
// Shared memory is allocated to the byte, so that the address sanitizer sees what runs over it.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#if !(defined(__x86_64__) && defined(__linux__))
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#define NAS_CNTK_HOST 1
#define __global__
#define __device__
#define __shared__ static  // one block at a time
#define NAS_CNTK_INLINE static inline
#define NAS_CNTK_MEMBER inline
#define NAS_CNTK_CONSTANT static constexpr
#define NAS_CNTK_KERNEL static
#define NAS_CNTK_BOUNDS

namespace cuda_host {

struct Index {
    unsigned x, y, z;
};

constexpr int lanes = 32;
constexpr size_t stack_bytes = 256 * 1024;

enum Wait { running, at_shuffle, at_barrier, done };

struct Fiber {
    Wait wait = running;
    int line = 0;
    unsigned met = 0;  // meeting points so far
    uint64_t offered[2] = {0, 0};  // to the other lanes; by parity of `met`, since a fast lane is one meeting ahead
    char* stack = nullptr;
#if defined(__x86_64__) && defined(__linux__)
    void* at = nullptr;
#else
    ucontext_t at;
#endif
};

struct Block {
    std::vector<Fiber> fibers;
    double* room = nullptr;
    int current = 0;
    bool backwards = false;
    void (*body)(void*) = nullptr;
    void* arguments = nullptr;
#if defined(__x86_64__) && defined(__linux__)
    void* scheduler = nullptr;
#else
    ucontext_t scheduler;
#endif
};

static Block block;
static std::vector<char*> stacks;

[[noreturn]] static inline void fail(const char* what, int line) {
    std::fprintf(stderr, "gram.cu:%d: thread %d: %s\n", line, block.current, what);
    std::abort();
}

}  // namespace cuda_host

static cuda_host::Index threadIdx, blockIdx, blockDim, gridDim;

namespace cuda_host {

#if defined(__x86_64__) && defined(__linux__)
// Saves the registers that a call keeps and the stack pointer in *from, and goes on at `to`.
extern "C" void nas_cntk_switch(void** from, void* to);
asm(R"(
.text
.type nas_cntk_switch, @function
nas_cntk_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size nas_cntk_switch, .-nas_cntk_switch
)");
#endif

static void* scheduler_fake_stack;
static const void* scheduler_stack;
static size_t scheduler_stack_bytes;

// To the fiber `number`, from the scheduler.
static inline void enter(int number) {
    Fiber& fiber = block.fibers[number];
    block.current = number;
    threadIdx = {unsigned(number), 0, 0};
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&scheduler_fake_stack, fiber.stack, stack_bytes);
#endif
#if defined(__x86_64__) && defined(__linux__)
    nas_cntk_switch(&block.scheduler, fiber.at);
#else
    swapcontext(&block.scheduler, &fiber.at);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr);
#endif
}

// To the scheduler, from the current fiber.
static inline void leave(bool last) {
    Fiber& fiber = block.fibers[block.current];
#if defined(__SANITIZE_ADDRESS__)
    void* fake_stack = nullptr;
    __sanitizer_start_switch_fiber(last ? nullptr : &fake_stack, scheduler_stack, scheduler_stack_bytes);
#endif
    (void)last;
#if defined(__x86_64__) && defined(__linux__)
    nas_cntk_switch(&fiber.at, block.scheduler);
#else
    swapcontext(&fiber.at, &block.scheduler);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_stack, &scheduler_stack, &scheduler_stack_bytes);
#endif
}

static void begin() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_bytes);
#endif
    block.body(block.arguments);
    block.fibers[block.current].wait = done;
    leave(true);
    std::abort();
}

static inline void prepare(Fiber& fiber) {
    fiber.wait = running;
    fiber.met = 0;
#if defined(__x86_64__) && defined(__linux__)
    void** top = reinterpret_cast<void**>(fiber.stack + stack_bytes - 64);
    *--top = nullptr;  // where `begin` would return to; it does not
    *--top = reinterpret_cast<void*>(&begin);
    top -= 6;
    std::memset(top, 0, 6 * sizeof(void*));
    fiber.at = top;
#else
    getcontext(&fiber.at);
    fiber.at.uc_stack.ss_sp = fiber.stack;
    fiber.at.uc_stack.ss_size = stack_bytes;
    fiber.at.uc_link = nullptr;
    makecontext(&fiber.at, begin, 0);
#endif
}

static inline void meet(Wait wait, int line) {
    Fiber& fiber = block.fibers[block.current];
    fiber.wait = wait;
    fiber.line = line;
    ++fiber.met;
    leave(false);
}

// Offers a value to the warp, waits for all lanes, and returns what lane `from` offered.
template <class T>
static inline T exchange(T value, int from, int line) {
    static_assert(sizeof(T) <= sizeof(uint64_t), "one word at a time");
    const int me = block.current, first = me / lanes * lanes;
    const unsigned parity = block.fibers[me].met & 1;
    std::memcpy(&block.fibers[me].offered[parity], &value, sizeof(T));
    meet(at_shuffle, line);
    T result;
    std::memcpy(&result, &block.fibers[first + from].offered[parity], sizeof(T));
    return result;
}

// Runs every fiber once, to its next meeting point or its end, and checks that the same point was met by all that must.
static inline bool round_of_all() {
    const int n = int(block.fibers.size());
    for (int k = 0; k < n; ++k) {
        const int number = block.backwards ? n - 1 - k : k;
        if (block.fibers[number].wait == running) enter(number);
    }
    for (int first = 0; first < n; first += lanes) {
        const Fiber& one = block.fibers[first];
        bool same = true;
        for (int k = first; k < first + lanes; ++k) {
            const Fiber& other = block.fibers[k];
            block.current = k;
            if (other.wait != one.wait || (one.wait == at_shuffle && (other.line != one.line || other.met != one.met))) same = false;
        }
        if (!same) fail("the lanes of a warp are not at one shuffle, barrier or end", one.line);
        if (one.wait == at_shuffle)
            for (int k = first; k < first + lanes; ++k) block.fibers[k].wait = running;
    }
    bool all_done = true, all_waiting = true;
    for (const Fiber& fiber : block.fibers) {
        all_done = all_done && fiber.wait == done;
        all_waiting = all_waiting && fiber.wait == at_barrier;
    }
    if (all_waiting) {
        const int line = block.fibers[0].line;
        for (Fiber& fiber : block.fibers) {
            if (fiber.line != line) fail("a barrier is not the one that thread 0 is at", fiber.line);
            fiber.wait = running;
        }
    }
    bool any_running = false;
    for (const Fiber& fiber : block.fibers) any_running = any_running || fiber.wait == running;
    if (!any_running && !all_done) fail("some threads returned while others wait at a barrier", 0);
    return !all_done;
}

static inline void run_grid(unsigned grid, unsigned threads, size_t shared_bytes, bool backwards, void (*body)(void*), void* arguments) {
    if (threads == 0 || threads % lanes) {
        std::fprintf(stderr, "a block of %u threads is no number of whole warps\n", threads);
        std::abort();
    }
    while (stacks.size() < threads) stacks.push_back(static_cast<char*>(std::aligned_alloc(64, stack_bytes)));
    block.fibers.resize(threads);
    for (unsigned k = 0; k < threads; ++k) block.fibers[k].stack = stacks[k];
    block.body = body;
    block.arguments = arguments;
    block.backwards = backwards;
    gridDim = {grid, 1, 1};
    blockDim = {threads, 1, 1};
    for (unsigned b = 0; b < grid; ++b) {
        blockIdx = {b, 0, 0};
        char* const room = shared_bytes ? static_cast<char*>(std::malloc(shared_bytes)) : nullptr;
        if (room) std::memset(room, 0xff, shared_bytes);  // NaN: nothing may count on zeros
        block.room = reinterpret_cast<double*>(room);
        for (Fiber& fiber : block.fibers) prepare(fiber);
        while (round_of_all()) {}
        std::free(room);
    }
}

}  // namespace cuda_host

#define __syncthreads() cuda_host::meet(cuda_host::at_barrier, __LINE__)
#define __shfl_up_sync(mask, value, by) cuda_host::exchange(value, cuda_host::lane_at(-int(by)), __LINE__)
#define __shfl_down_sync(mask, value, by) cuda_host::exchange(value, cuda_host::lane_at(int(by)), __LINE__)
#define __shfl_xor_sync(mask, value, by) cuda_host::exchange(value, int((threadIdx.x % 32) ^ unsigned(by)), __LINE__)
#define greatest(x) cuda_host::over_warp(x, false, __LINE__)
#define uniform(x) cuda_host::over_warp(x, true, __LINE__)

namespace cuda_host {

// A lane whose partner is outside the warp gets its own value, as on the device.
static inline int lane_at(int by) {
    const int lane = block.current % lanes, to = lane + by;
    return to < 0 || to >= lanes ? lane : to;
}

// The greatest of a warp's numbers; `same`: they must be equal.
static inline int over_warp(int x, bool same, int line) {
    const int me = block.current, first = me / lanes * lanes;
    const unsigned parity = block.fibers[me].met & 1;
    exchange(x, 0, line);
    int most = x;
    for (int k = first; k < first + lanes; ++k) {
        int one;
        std::memcpy(&one, &block.fibers[k].offered[parity], sizeof one);
        if (same && one != x) fail("what must be the same in all lanes is not", line);
        most = one > most ? one : most;
    }
    return most;
}

}  // namespace cuda_host

static inline double* shared_room() { return cuda_host::block.room; }
static inline float fast_root(float x) { return std::sqrt(x); }
static inline double fast_root(double x) { return std::sqrt(x); }
static inline float fast_inverse(float x) { return 1.0f / x; }
static inline double fast_inverse(double x) { return 1.0 / x; }
static inline float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline double fused(double a, double b, double c) { return __builtin_fma(a, b, c); }
