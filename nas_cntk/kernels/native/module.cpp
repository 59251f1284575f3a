// The Python module `nas_cntk.kernels._native`: reads a lowered program, chooses the instruction set, lends arrays.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "loaded.h"
#include "program.h"

namespace nb = nanobind;

namespace nas_cntk {

#if defined(__x86_64__)
extern const InstructionSet set_avx512, set_avx2, set_sse4;
#else
extern const InstructionSet set_neon;
#endif

namespace {

std::vector<const InstructionSet*> supported() {
    std::vector<const InstructionSet*> sets;  // best first
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        sets.push_back(&set_avx512);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
        sets.push_back(&set_avx2);
    sets.push_back(&set_sse4);
#else
    sets.push_back(&set_neon);
#endif
    return sets;
}

const InstructionSet& chosen() {
    const auto sets = supported();
    const char* wanted = std::getenv("NAS_CNTK_ISA");
    if (!wanted || !*wanted) return *sets.front();
    std::string names;
    for (const InstructionSet* set : sets) {
        if (std::string(wanted) == set->name) return *set;
        names += std::string(names.empty() ? "" : ", ") + set->name;
    }
    throw std::invalid_argument("NAS_CNTK_ISA is '" + std::string(wanted) + "'; this machine has " + names);
}

template <class R>
struct Scratch {
    explicit Scratch(const Program& program)
        : p(static_cast<R*>(std::aligned_alloc(cache_line, size_t(program.scratch + 1) * cache_line))) {
        if (!p) throw std::bad_alloc();
    }
    ~Scratch() { std::free(p); }
    R* p;
};

template <class R>
const Kernels<R>& kernels_of(const InstructionSet& set) {
    if constexpr (sizeof(R) == 4)
        return set.single;
    else
        return set.real;
}

template <class R>
using In = nb::ndarray<const R, nb::c_contig, nb::device::cpu>;
template <class R>
using Out = nb::ndarray<R, nb::c_contig, nb::device::cpu>;

template <class R>
void variances(const Loaded& loaded, In<R> images, int64_t first, int64_t last, Out<R> maps) {
    const Kernels<R>& kernels = kernels_of<R>(chosen());
    nb::gil_scoped_release release;
    Scratch<R> scratch(loaded.program);
    kernels.variances(loaded.program, images.data(), first, last, maps.data(), scratch.p);
}

template <class R>
void tile(const Loaded& loaded, In<R> x1, In<R> maps1, int64_t row_first, int64_t row_last, In<R> x2, In<R> maps2, int64_t first,
          int64_t last, Out<double> out) {
    const Kernels<R>& kernels = kernels_of<R>(chosen());
    nb::gil_scoped_release release;
    Scratch<R> scratch(loaded.program);
    kernels.tile(loaded.program, x1.data(), maps1.data(), row_first, row_last, x2.data(), maps2.data(), first, last, out.data(), scratch.p);
}

}  // namespace

NB_MODULE(_native, m) {
    nb::class_<Loaded>(m, "Program")
        .def("__init__",
             [](Loaded* self, nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig> integers,
                nb::ndarray<const double, nb::ndim<1>, nb::c_contig> reals) {
                 new (self) Loaded(integers.data(), integers.size(), reals.data(), reals.size());
             });
    m.def("instruction_sets", [] {
        std::vector<std::string> names;
        for (const InstructionSet* set : supported()) names.push_back(set->name);
        return names;
    });
    m.def("instruction_set", [] { return std::string(chosen().name); });
    // Runs `rounds` of the burn test and returns how many floats it multiplied and added.
    m.def("burn", [](int64_t rounds) {
        const InstructionSet& set = chosen();
        nb::gil_scoped_release release;
        volatile float keep = set.burn(rounds);
        (void)keep;
        return double(rounds) * 12 * set.vector_floats;
    });
    m.def("variances", &variances<float>);
    m.def("variances", &variances<double>);
    m.def("tile", &tile<float>);
    m.def("tile", &tile<double>);
}

}  // namespace nas_cntk
