// The scheme of the program that came with Arora et al. (2019), written anew as a baseline: one pair of images a launch, one
// kernel a layer, and S and T, all height^2 width^2 entries of them, through main memory before and after each. Arithmetic as
// that program has it: arccosine and square root from the library, and divisions. Zero outside the image.
//
// Compiled by benchmarks/gpu.py. A thread an entry, 256 of a block; entry ((i width + j) height + i') width + j'.

extern "C" __global__ void paper_input(const float* x, const float* y, float* s, float* t, int height, int width, int channels) {
    const int area = height * width, index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= area * area) return;
    float sum = 0;
    for (int c = 0; c < channels; ++c) sum += x[index / area * channels + c] * y[index % area * channels + c];
    s[index] = sum / channels;
    t[index] = 0;
}

// The window sum over q^2 of S and T; the new T holds the new S besides, if the layer is trained.
extern "C" __global__ void paper_conv(const float* s, const float* t, float* s_out, float* t_out, int height, int width, int reach,
                                      int trained) {
    const int area = height * width, index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= area * area) return;
    const int i = index / area / width, j = index / area % width, i2 = index % area / width, j2 = index % width;
    float s_sum = 0, t_sum = 0;
    for (int a = -reach; a <= reach; ++a)
        for (int b = -reach; b <= reach; ++b) {
            if (i + a < 0 || i + a >= height || i2 + a < 0 || i2 + a >= height) continue;
            if (j + b < 0 || j + b >= width || j2 + b < 0 || j2 + b >= width) continue;
            const int at = index + (a * width + b) * (area + 1);
            s_sum += s[at];
            t_sum += t[at];
        }
    const float q = 2 * reach + 1;
    s_out[index] = s_sum / (q * q);
    t_out[index] = t_sum / (q * q) + (trained ? s_out[index] : 0);
}

// S and T through a relu in place; v, v2: the variances of the two images before it.
extern "C" __global__ void paper_relu(float* s, float* t, const float* v, const float* v2, int area) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= area * area) return;
    const float pi = 3.14159265358979f, scale = sqrtf(v[index / area] * v2[index % area]);
    const float ratio = scale > 0 ? s[index] / scale : 0, correlation = ratio > 1 ? 1 : ratio < -1 ? -1 : ratio;
    const float angle = acosf(correlation);
    s[index] = scale * (correlation * (pi - angle) + sqrtf(1 - correlation * correlation)) / pi;
    t[index] = scale > 0 ? t[index] * (pi - angle) / pi : 0;
}

// out = the means of S and T: global average pooling. One block of 256 threads.
extern "C" __global__ void paper_head(const float* s, const float* t, double* out, int entries) {
    __shared__ double part[512];
    double s_sum = 0, t_sum = 0;
    for (int k = threadIdx.x; k < entries; k += 256) {
        s_sum += s[k];
        t_sum += t[k];
    }
    part[2 * threadIdx.x] = s_sum;
    part[2 * threadIdx.x + 1] = t_sum;
    __syncthreads();
    if (threadIdx.x < 2) {
        double total = 0;
        for (int k = 0; k < 256; ++k) total += part[2 * k + threadIdx.x];
        out[threadIdx.x] = total / entries;
    }
}
