// Runs one program of one instruction set outside Python: for sets that this machine can only emulate.
// Reads FILE: sizes, program, images and left maps as tests/native/test_emulated.py writes them; writes variance maps and
// readouts to standard output.
#include <cstdio>
#include <cstdlib>

#include "loaded.h"

namespace nas_cntk {
extern const InstructionSet NAS_CNTK_SET;
}

// As many as asked for and not one more: a sanitizer knows where they end.
template <class T>
static T* reserve(size_t n) {
    void* p = nullptr;
    if (posix_memalign(&p, 64, n * sizeof(T))) std::exit(2);
    return static_cast<T*>(p);
}

template <class T>
static T* read(FILE* f, size_t n) {
    T* p = reserve<T>(n);
    if (std::fread(p, sizeof(T), n, f) != n) std::exit(2);
    return p;
}

template <class R>
static void run(const nas_cntk::Kernels<R>& kernels, FILE* f, const long long* n) {
    using nas_cntk::Loaded;
    const int32_t *own_integers = read<int32_t>(f, n[0]), *main_integers = read<int32_t>(f, n[2]);
    const double *own_reals = read<double>(f, n[1]), *main_reals = read<double>(f, n[3]);
    const R *wide = read<R>(f, n[4]), *flat = read<R>(f, n[5]), *left = read<R>(f, n[6]);
    const long long groups = n[7], rows = n[8], maps_size = n[9], out_size = n[10];
    Loaded own(own_integers, n[0], own_reals, n[1]), main(main_integers, n[2], main_reals, n[3]);
    const auto scratch = [](const Loaded& one) { return static_cast<R*>(std::aligned_alloc(64, (one.program.scratch + 1) * 64)); };
    R* maps = reserve<R>(maps_size);
    kernels.variances(own.program, wide, 0, groups, maps, scratch(own));
    double* out = static_cast<double*>(std::calloc(out_size, sizeof(double)));
    kernels.tile(main.program, flat, left, 0, rows, wide, maps, 0, groups, out, scratch(main));
    std::fwrite(maps, sizeof(R), maps_size, stdout);
    std::fwrite(out, sizeof(double), out_size, stdout);
}

int main(int count, char** arguments) {
    FILE* f = count == 2 ? std::fopen(arguments[1], "rb") : nullptr;
    if (!f) return 2;
    const long long* n = read<long long>(f, 12);
    if (n[11] == 4)
        run(nas_cntk::NAS_CNTK_SET.single, f, n);
    else
        run(nas_cntk::NAS_CNTK_SET.real, f, n);
}
