// Calls a kernel by its name, with arguments that are given as addresses.
#pragma once

#include "cuda_host.h"

#include <tuple>
#include <utility>

namespace {

template <class... Types>
struct Call {
    void (*kernel)(Types...);
    std::tuple<Types...> arguments;

    static void run(void* self) {
        Call& call = *static_cast<Call*>(self);
        std::apply(call.kernel, call.arguments);
    }
};

template <class... Types, size_t... index>
void launch(void (*kernel)(Types...), void** arguments, unsigned grid, unsigned threads, size_t shared, bool backwards,
            std::index_sequence<index...>) {
    Call<Types...> call{kernel, {*static_cast<Types*>(arguments[index])...}};
    cuda_host::run_grid(grid, threads, shared, backwards, Call<Types...>::run, &call);
}

template <class... Types>
int launch_if(const char* wanted, const char* name, int given, void (*kernel)(Types...), void** arguments, unsigned grid,
              unsigned threads, size_t shared, bool backwards) {
    if (std::strcmp(wanted, name)) return 1;
    if (given != int(sizeof...(Types))) return 2;
    launch(kernel, arguments, grid, threads, shared, backwards, std::index_sequence_for<Types...>());
    return 0;
}

}  // namespace

#define NAS_CNTK_TRY(kernel) \
    if (found == 1) found = launch_if(name, #kernel, given, kernel, arguments, grid, threads, shared, backwards)
