// gram.cu as a shared library for the CPU: one function that launches a kernel by its name.
#include "cuda_launch.h"

#include "gram.cu"

// 0: done; 1: no such kernel; 2: another number of arguments.
extern "C" int cuda_host_launch(const char* name, int given, void** arguments, unsigned grid, unsigned threads, size_t shared,
                                int backwards) {
    using namespace nas_cntk;
    int found = 1;
    NAS_CNTK_TRY(field_input);
    NAS_CNTK_TRY(field_linear);
    NAS_CNTK_TRY(field_relu);
    NAS_CNTK_TRY(field_aligned);
    NAS_CNTK_TRY(field_term);
    NAS_CNTK_TRY(field_variance);
    NAS_CNTK_TRY(field_head);
    NAS_CNTK_TRY(place_channels);
    NAS_CNTK_TRY(arrange);
#ifdef NAS_CNTK_TILE_H
    NAS_CNTK_TRY(stretch);
    NAS_CNTK_TRY(stretch_staged);
    NAS_CNTK_TRY(stretch_itself);
#endif
    return found;
}
