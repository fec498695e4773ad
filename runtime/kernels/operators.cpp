// Custom operators of ONNX Runtime for the packed graph of a decoder; their names carry their versions.
//
// An operator checks the shapes of its inputs and every index in them before it computes: a graph may come from anyone.
// Types are checked by ONNX Runtime, as declared here.
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "dispatch.h"
#include "memory.h"
#include "onnxruntime_api.h"

namespace quoit {
namespace ort {
const void* const* table = nullptr;
}

namespace {

#define RETURN_IF(expression) \
  if (OrtStatus* failed = (expression)) return failed

template <typename T, size_t SIZE>
constexpr size_t count_of(const T (&)[SIZE]) {
  return SIZE;
}
constexpr int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

constexpr int64_t MULTIPLE = 16;  // of which the sizes of rows have to be, for vectors of every width
constexpr int64_t MAX_HEAD_DIM = 640;
constexpr int64_t MAX_HEADS = 1 << 16;  // so that the sizes of rows do not overflow
constexpr int64_t MAX_INPUTS = 1 << 16;  // so that 255 * 127 * inputs fits into 32 bits

bool is_multiple(int64_t size) { return size >= MULTIPLE && size % MULTIPLE == 0; }

OrtStatus* refuse(const char* what) { return ort::create_status(ort::INVALID_ARGUMENT, what); }
OrtStatus* no_memory() { return ort::create_status(ort::FAIL, "the kernels got no memory"); }

// A tensor of up to three axes.
struct Tensor {
  const void* data = nullptr;
  size_t axes = 0;
  int64_t shape[3] = {1, 1, 1};

  template <typename T>
  const T* as() const {
    return static_cast<const T*>(data);
  }
  bool is(int64_t first) const { return axes == 1 && shape[0] == first; }
  bool is(int64_t first, int64_t second) const { return axes == 2 && shape[0] == first && shape[1] == second; }
};

OrtStatus* read(const OrtValue* value, Tensor* tensor) {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  RETURN_IF(ort::type_and_shape(value, &info));
  OrtStatus* failed = ort::count_dimensions(info, &tensor->axes);
  if (failed == nullptr && tensor->axes > 3) failed = refuse("a tensor has more than three axes");
  if (failed == nullptr) failed = ort::dimensions(info, tensor->shape, tensor->axes);
  ort::release_type_and_shape(info);
  if (failed != nullptr) return failed;
  void* data = nullptr;
  RETURN_IF(ort::tensor_data(const_cast<OrtValue*>(value), &data));
  tensor->data = data;
  return nullptr;
}

OrtStatus* input(const OrtKernelContext* context, size_t index, Tensor* tensor) {
  const OrtValue* value = nullptr;
  RETURN_IF(ort::input(context, index, &value));
  if (value == nullptr) return nullptr;  // an optional input that the graph leaves out
  return read(value, tensor);
}

OrtStatus* constant(const OrtKernelInfo* info, size_t index, Tensor* tensor) {
  const OrtValue* value = nullptr;
  int is_constant = 0;
  RETURN_IF(ort::constant_input(info, index, &is_constant, &value));
  if (!is_constant) return refuse("weights have to be constant");
  return read(value, tensor);
}

template <typename T>
OrtStatus* output(OrtKernelContext* context, size_t index, std::initializer_list<int64_t> shape, T** data) {
  OrtValue* value = nullptr;
  RETURN_IF(ort::output(context, index, shape.begin(), shape.size(), &value));
  void* found = nullptr;
  RETURN_IF(ort::tensor_data(value, &found));
  *data = static_cast<T*>(found);
  return nullptr;
}

// Runs tasks 0 to count - 1 on the session's threads.
template <typename F>
OrtStatus* parallel(const OrtKernelContext* context, int64_t count, const F& task) {
  if (count == 1) task(0);
  if (count <= 1) return nullptr;
  const auto run = [](void* data, size_t index) { (*static_cast<const F*>(data))(static_cast<int64_t>(index)); };
  return ort::parallel_for(context, run, static_cast<size_t>(count), 0, const_cast<F*>(&task));
}

// The same in pieces of several items, first to end - 1, since a task costs about a microsecond.
template <typename F>
OrtStatus* parallel_ranges(const OrtKernelContext* context, int64_t count, int64_t piece, const F& task) {
  const int64_t pieces = (count + piece - 1) / piece;
  return parallel(context, pieces,
                  [&](int64_t index) { task(index * piece, least(count, (index + 1) * piece)); });
}

template <typename F>
OrtStatus* parallel_pieces(const OrtKernelContext* context, int64_t count, int64_t piece, const F& task) {
  return parallel_ranges(context, count, piece, [&](int64_t first, int64_t end) {
    for (int64_t item = first; item < end; item++) task(item);
  });
}

// Rounds rows, and those that the threshold finds uneven a second time.
struct Rounding {
  float threshold = -1;

  OrtStatus* create(const OrtKernelInfo* info) {
    const bool narrow = kernels()->highest < 127;
    return ort::float_attribute(info, narrow ? "narrow_threshold" : "threshold", &threshold);
  }

  // row_of(index, scratch) gives a row, which may lie in the scratch [floats]; it is called again for rows with a second
  // pass.
  template <typename F>
  OrtStatus* compute(OrtKernelContext* context, int64_t count, int64_t size, size_t floats, const F& row_of) const {
    const Kernels& with = *kernels();
    uint8_t *values, *rest;
    float* scales;
    int64_t* rows;
    RETURN_IF(output(context, 0, {count, size}, &values));
    RETURN_IF(output(context, 1, {count}, &scales));
    const Array<bool> uneven(count);
    if (!uneven) return no_memory();
    constexpr int64_t PIECE = 16384;  // values of one task
    const int64_t piece = most(1, PIECE / size);
    bool refused = false;
    RETURN_IF(parallel_ranges(context, count, piece, [&](int64_t first, int64_t end) {
      const Scratch scratch(floats);
      if (!scratch) return __atomic_store_n(&refused, true, __ATOMIC_RELAXED);
      for (int64_t row = first; row < end; row++) {
        const float* x = row_of(row, scratch.get());
        scales[row] = with.quantize(x, size, threshold, values + row * size, &uneven[row]);
      }
    }));
    if (refused) return no_memory();
    int64_t twice = 0;
    for (const bool one : uneven) twice += one;
    RETURN_IF(output(context, 2, {twice, size}, &rest));
    RETURN_IF(output(context, 3, {twice}, &rows));
    for (int64_t row = 0, at = 0; row < count; row++)
      if (uneven[row]) rows[at++] = row;
    RETURN_IF(parallel_ranges(context, twice, piece, [&](int64_t first, int64_t end) {
      const Scratch scratch(floats);
      if (!scratch) return __atomic_store_n(&refused, true, __ATOMIC_RELAXED);
      for (int64_t at = first; at < end; at++) {
        const int64_t row = rows[at];
        const float* x = row_of(row, scratch.get());
        with.quantize_rest(x, size, scales[row], values + row * size, rest + at * size);
      }
    }));
    return refused ? no_memory() : nullptr;
  }
};

// x [T, K] float32 -> values [T, K] uint8, scales [T], rest [M, K] uint8, rows [M]
struct QuantizeRows1 : Rounding {
  static constexpr const char* NAME = "QuantizeRows1";
  static constexpr ort::ElementType INPUTS[] = {ort::FLOAT};
  static constexpr ort::ElementType OUTPUTS[] = {ort::UINT8, ort::FLOAT, ort::UINT8, ort::INT64};
  static constexpr size_t OPTIONAL_FROM = 1;

  OrtStatus* compute(OrtKernelContext* context) const {
    Tensor x;
    RETURN_IF(input(context, 0, &x));
    const int64_t count = x.shape[0], size = x.shape[1];
    if (x.axes != 2 || !is_multiple(size)) return refuse("rows to round have to be [T, K], K a multiple of 16");
    return Rounding::compute(context, count, size, 0, [&](int64_t row, float*) { return x.as<float>() + row * size; });
  }
};

// x and residual [T, K], weight [K] -> the rounded RMSNorm of their sum, as above, and the sum [T, K]
struct AddNormQuantizeRows1 : Rounding {
  static constexpr const char* NAME = "AddNormQuantizeRows1";
  static constexpr ort::ElementType INPUTS[] = {ort::FLOAT, ort::FLOAT, ort::FLOAT};
  static constexpr ort::ElementType OUTPUTS[] = {ort::UINT8, ort::FLOAT, ort::UINT8, ort::INT64, ort::FLOAT};
  static constexpr size_t OPTIONAL_FROM = 3;
  float epsilon = 0;

  OrtStatus* create(const OrtKernelInfo* info) {
    RETURN_IF(ort::float_attribute(info, "epsilon", &epsilon));
    return Rounding::create(info);
  }

  OrtStatus* compute(OrtKernelContext* context) const {
    const Kernels& with = *kernels();
    Tensor x, residual, weight;
    RETURN_IF(input(context, 0, &x));
    RETURN_IF(input(context, 1, &residual));
    RETURN_IF(input(context, 2, &weight));
    const int64_t count = x.shape[0], size = x.shape[1];
    if (x.axes != 2 || !is_multiple(size) || !residual.is(count, size) || !weight.is(size))
      return refuse("rows to add and round have to be [T, K] twice with a weight [K], K a multiple of 16");
    float* total;
    RETURN_IF(output(context, 4, {count, size}, &total));
    return Rounding::compute(context, count, size, size, [&](int64_t row, float* scratch) {
      with.add_norm(x.as<float>() + row * size, residual.as<float>() + row * size, weight.as<float>(), epsilon, size,
                    total + row * size, scratch);
      return static_cast<const float*>(scratch);
    });
  }
};

// Weights that are laid out for the kernels when the first run needs them, on the threads of that run.
template <int MATRICES, bool GATED>
class Weights {
 public:
  // The inputs from `first` on are the weights and scales of each matrix, in turn.
  OrtStatus* create(const OrtKernelInfo* info, size_t first) {
    for (int matrix = 0; matrix < MATRICES; matrix++) {
      Tensor weight, scale;
      RETURN_IF(constant(info, first + 2 * matrix, &weight));
      RETURN_IF(constant(info, first + 2 * matrix + 1, &scale));
      const int64_t inputs = weight.shape[0], outputs = weight.shape[1];
      if (weight.axes != 2 || !is_multiple(inputs) || inputs > MAX_INPUTS || outputs < 1)
        return refuse("a weight has to be [K, N], K a multiple of 16 and at most 65536");
      if (!scale.is(outputs)) return refuse("a weight [K, N] has to have N scales");
      if (matrix > 0 && inputs != sources_[0].shape[0]) return refuse("weights of one input have to have as many rows");
      if (GATED && matrix > 0 && outputs != sources_[0].shape[1]) return refuse("gate and up have to have one shape");
      sources_[matrix] = weight;
      scales_[matrix] = scale;
    }
    return nullptr;
  }

  int64_t inputs() const { return sources_[0].shape[0]; }
  int64_t outputs(int matrix) const { return sources_[matrix].shape[1]; }
  const Panels& panels(int matrix) const { return panels_[matrix]; }

  OrtStatus* prepare(OrtKernelContext* context) {
    if (__atomic_load_n(&ready_, __ATOMIC_ACQUIRE)) return nullptr;
    const Guard guard(lock_);
    if (ready_) return nullptr;
    for (int matrix = 0; matrix < PANELS; matrix++) RETURN_IF(pack(context, matrix));
    for (const Tensor& source : sources_) give_back(source.data, source.shape[0] * source.shape[1]);
    __atomic_store_n(&ready_, true, __ATOMIC_RELEASE);
    return nullptr;
  }

 private:
  static constexpr int PANELS = GATED ? 1 : MATRICES;

  OrtStatus* pack(OrtKernelContext* context, int which) {
    const Kernels& with = *kernels();
    const int64_t width = GATED ? with.columns / 2 : with.columns;
    Panels panels;
    panels.inputs = inputs();
    panels.outputs = outputs(which);
    panels.count = (panels.outputs + width - 1) / width;
    panels.gated = GATED;
    const int64_t columns = panels.count * with.columns;
    values_[which] = Array<int8_t>(columns * panels.inputs);
    starts_[which] = Array<int32_t>(columns);
    columns_[which] = Array<float>(columns);
    if (!values_[which] || !starts_[which] || !columns_[which]) return no_memory();
    panels.values = values_[which].get();
    panels.starts = starts_[which].get();
    panels.scales = columns_[which].get();
    panels_[which] = panels;
    // Several panels at a time, which read the same lines and pages of the weight.
    return parallel_pieces(context, panels.count, 4, [&](int64_t panel) {
      for (int matrix = 0; matrix < (GATED ? MATRICES : 1); matrix++) {
        const int source = GATED ? matrix : which;
        with.pack(panels, panel, matrix, sources_[source].template as<int8_t>(), scales_[source].template as<float>());
      }
    });
  }

  Tensor sources_[MATRICES], scales_[MATRICES];
  Panels panels_[PANELS];
  Array<int8_t> values_[PANELS];
  Array<int32_t> starts_[PANELS];
  Array<float> columns_[PANELS];
  bool ready_ = false;
  Lock lock_;
};

// The outputs of QuantizeRows1 as products read them.
struct Rows {
  Tensor values, scales, rest, again;
  Array<Row> order;
  int64_t once = 0;

  OrtStatus* read(const OrtKernelContext* context, int64_t inputs) {
    RETURN_IF(input(context, 0, &values));
    RETURN_IF(input(context, 1, &scales));
    RETURN_IF(input(context, 2, &rest));
    RETURN_IF(input(context, 3, &again));
    const int64_t count = values.shape[0], twice = rest.shape[0];
    if (!values.is(count, inputs) || !scales.is(count)) return refuse("rounded rows have to be [T, K] with T scales");
    if (!rest.is(twice, inputs) || !again.is(twice)) return refuse("remainders have to be [M, K] of M rows");
    if (count > INT32_MAX || twice > count) return refuse("there are more remainders than rows");
    const Array<int32_t> places(count);
    order = Array<Row>(count);
    if (!places || !order) return no_memory();
    for (int32_t& place : places) place = -1;
    for (int64_t at = 0; at < twice; at++) {
      const int64_t row = again.as<int64_t>()[at];
      if (row < 0 || row >= count || places[row] >= 0) return refuse("the rows of remainders have to be distinct rows");
      places[row] = static_cast<int32_t>(at);
    }
    once = count - twice;
    int64_t plain = 0, rested = once;
    for (int64_t row = 0; row < count; row++)
      order[places[row] < 0 ? plain++ : rested++] = {static_cast<int32_t>(row), places[row]};
    return nullptr;
  }

  Product product(const Panels& weights, float* out) const {
    return {&weights, values.as<uint8_t>(), rest.as<uint8_t>(), scales.as<float>(), order.get(),
            static_cast<int64_t>(order.size()), once, out};
  }
};

// A product's panels times pieces of its rows.
struct Tasks {
  static constexpr int64_t MOST = 192;         // rows of one task that is not cut
  static constexpr int64_t PIECE_BYTES = 96 * 3072;  // of activations, beside a panel in the second-level cache

  Product product{};
  int64_t pieces = 0;
  bool prefetch = false;

  Tasks() = default;
  explicit Tasks(const Product& of) : product(of) {
    const int64_t inputs = of.weights->inputs;
    const int64_t rows = most(24, least(96, PIECE_BYTES / inputs));
    pieces = of.count <= most(rows, MOST * 1024 / most(1024, inputs)) ? 1 : (of.count + rows - 1) / rows;
    prefetch = of.count <= 64;
  }
  int64_t count() const { return product.weights->count * pieces; }
  void run(int64_t index) const {
    const int64_t piece = index % pieces;
    kernels()->product(product, index / pieces, product.count * piece / pieces, product.count * (piece + 1) / pieces,
                       prefetch);
  }
};

template <int MATRICES, bool GATED>
struct Linears {
  Weights<MATRICES, GATED> weights;

  OrtStatus* create(const OrtKernelInfo* info) {
    if (kernels()->columns == 0) return refuse("there are no products for this CPU");
    return weights.create(info, 4);
  }

  OrtStatus* compute(OrtKernelContext* context) {
    constexpr int OUTPUTS = GATED ? 1 : MATRICES;
    Rows rows;
    RETURN_IF(rows.read(context, weights.inputs()));
    RETURN_IF(weights.prepare(context));
    Tasks tasks[OUTPUTS];
    int64_t total = 0;
    for (int matrix = 0; matrix < OUTPUTS; matrix++) {
      float* out;
      RETURN_IF(output(context, matrix, {rows.values.shape[0], weights.outputs(matrix)}, &out));
      tasks[matrix] = Tasks(rows.product(weights.panels(matrix), out));
      total += tasks[matrix].count();
    }
    if (rows.order.size() == 0) return nullptr;
    return parallel(context, total, [&](int64_t index) {
      size_t matrix = 0;
      while (index >= tasks[matrix].count()) index -= tasks[matrix++].count();
      tasks[matrix].run(index);
    });
  }
};

#define ROUNDED ort::UINT8, ort::FLOAT, ort::UINT8, ort::INT64
#define WEIGHT ort::INT8, ort::FLOAT

// rounded rows, weight [K, N] int8, scales [N] -> [T, N]
struct Linear1 : Linears<1, false> {
  static constexpr const char* NAME = "Linear1";
  static constexpr ort::ElementType INPUTS[] = {ROUNDED, WEIGHT};
  static constexpr ort::ElementType OUTPUTS[] = {ort::FLOAT};
  static constexpr size_t OPTIONAL_FROM = 6;
};

// rounded rows, and three weights with their scales -> three results
struct ThreeLinears1 : Linears<3, false> {
  static constexpr const char* NAME = "ThreeLinears1";
  static constexpr ort::ElementType INPUTS[] = {ROUNDED, WEIGHT, WEIGHT, WEIGHT};
  static constexpr ort::ElementType OUTPUTS[] = {ort::FLOAT, ort::FLOAT, ort::FLOAT};
  static constexpr size_t OPTIONAL_FROM = 10;
};

// rounded rows, gate and up with their scales -> silu(rows * gate) * (rows * up)
struct GatedLinear1 : Linears<2, true> {
  static constexpr const char* NAME = "GatedLinear1";
  static constexpr ort::ElementType INPUTS[] = {ROUNDED, WEIGHT, WEIGHT};
  static constexpr ort::ElementType OUTPUTS[] = {ort::FLOAT};
  static constexpr size_t OPTIONAL_FROM = 8;
};

// Causal attention over the packed stream with RoPE, and with norms of the heads of q and k if they are given.
//
// query [T, heads * D], key and value [T, kv_heads * D], cos and sin [positions, D / 2], index [R, S] (of the past's and
// then the stream's rows), slots [N] (row * S + position of each output), past_key (normalised, without positions) and
// past_value [P, kv_heads * D], kept_row [M] (of the stream), query_norm and key_norm [D]
// -> context [N, heads * D], present_key and present_value [M, kv_heads * D]
struct PackedAttention1 {
  static constexpr const char* NAME = "PackedAttention1";
  static constexpr ort::ElementType INPUTS[] = {ort::FLOAT, ort::FLOAT, ort::FLOAT, ort::FLOAT, ort::FLOAT, ort::INT64,
                                                ort::INT64, ort::FLOAT, ort::FLOAT, ort::INT64, ort::FLOAT, ort::FLOAT};
  static constexpr ort::ElementType OUTPUTS[] = {ort::FLOAT, ort::FLOAT, ort::FLOAT};
  static constexpr size_t OPTIONAL_FROM = 10;
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  float epsilon = 0, scale = 0;

  OrtStatus* create(const OrtKernelInfo* info) {
    RETURN_IF(ort::int_attribute(info, "heads", &heads));
    RETURN_IF(ort::int_attribute(info, "kv_heads", &kv_heads));
    RETURN_IF(ort::int_attribute(info, "head_dim", &head_dim));
    RETURN_IF(ort::float_attribute(info, "epsilon", &epsilon));
    RETURN_IF(ort::float_attribute(info, "scale", &scale));
    if (!is_multiple(head_dim) || head_dim > MAX_HEAD_DIM)
      return refuse("head_dim has to be a multiple of 16 and at most 640");
    if (heads > MAX_HEADS) return refuse("there are more than 65536 heads");
    if (kv_heads < 1 || heads < kv_heads || heads % kv_heads || heads / kv_heads > kernels()->query_rows)
      return refuse("heads have to be a multiple of kv_heads, at most 96 times as many");
    return nullptr;
  }

  OrtStatus* compute(OrtKernelContext* context) const {
    const Kernels& with = *kernels();
    Tensor query, key, value, cos, sin, index, slots, past_key, past_value, kept, query_norm, key_norm;
    Tensor* const all[] = {&query, &key, &value, &cos, &sin, &index, &slots, &past_key, &past_value, &kept,
                           &query_norm, &key_norm};
    for (size_t i = 0; i < count_of(all); i++) RETURN_IF(input(context, i, all[i]));
    const int64_t tokens = query.shape[0], past = past_key.shape[0], width = kv_heads * head_dim;
    const int64_t positions = cos.shape[0], count = slots.shape[0], keeps = kept.shape[0];
    if (!query.is(tokens, heads * head_dim) || !key.is(tokens, width) || !value.is(tokens, width))
      return refuse("query, key and value have to be [T, heads * head_dim] with their heads");
    if (!cos.is(positions, head_dim / 2) || !sin.is(positions, head_dim / 2))
      return refuse("cos and sin have to be [positions, head_dim / 2]");
    if (!past_key.is(past, width) || !past_value.is(past, width))
      return refuse("past keys and values have to be [P, kv_heads * head_dim]");
    if (index.axes != 2 || !slots.is(count) || !kept.is(keeps)) return refuse("index, slots or kept rows have other axes");
    if ((query_norm.data == nullptr) != (key_norm.data == nullptr) ||
        (query_norm.data != nullptr && (!query_norm.is(head_dim) || !key_norm.is(head_dim))))
      return refuse("both norms have to be [head_dim], or neither is given");
    if (past > positions || tokens > INT32_MAX || count > INT32_MAX) return refuse("there are too many tokens");

    const Array<Slot> order(count);
    const Array<int64_t> places(tokens);
    if (!order || !places) return no_memory();
    for (int64_t at = 0; at < count; at++) order[at] = {slots.as<int64_t>()[at], static_cast<int32_t>(at)};
    for (int64_t& place : places) place = -1;
    RETURN_IF(find_positions(index, past, positions, order, places));

    float *context_out, *present_key, *present_value;
    RETURN_IF(output(context, 0, {count, heads * head_dim}, &context_out));
    RETURN_IF(output(context, 1, {keeps, width}, &present_key));
    RETURN_IF(output(context, 2, {keeps, width}, &present_value));

    Array<float> keys((past + tokens) * width);
    if (!keys) return no_memory();
    const int64_t half = head_dim / 2;
    const auto turn = [&](const float* from, const float* norm, int64_t position, float* to, float* plain) {
      for (int64_t head = 0; head < kv_heads; head++) {
        const int64_t at = head * head_dim;
        with.head(from + at, norm, epsilon, head_dim, cos.as<float>() + position * half,
                  sin.as<float>() + position * half, 1, to + at, plain == nullptr ? nullptr : plain + at);
      }
    };
    RETURN_IF(parallel_pieces(context, past + tokens, 8, [&](int64_t at) {
      float* to = keys.get() + at * width;
      if (at < past)
        turn(past_key.as<float>() + at * width, nullptr, at, to, nullptr);
      else if (places[at - past] >= 0)
        turn(key.as<float>() + (at - past) * width, key_norm.as<float>(), places[at - past], to, nullptr);
    }));
    Array<float> turned(width);
    if (!turned) return no_memory();
    for (int64_t at = 0; at < keeps; at++) {
      const int64_t row = kept.as<int64_t>()[at];
      if (row < 0 || row >= tokens) return refuse("a kept row is none of the stream");
      turn(key.as<float>() + row * width, key_norm.as<float>(), 0, turned.get(), present_key + at * width);
      std::memcpy(present_value + at * width, value.as<float>() + row * width, width * sizeof(float));
    }

    const Attention attention = {heads, kv_heads, head_dim, epsilon, scale, query.as<float>(), query_norm.as<float>(),
                                 keys.get(), past_value.as<float>(), value.as<float>(), cos.as<float>(),
                                 sin.as<float>(), index.as<int64_t>(), past, index.shape[1], context_out};
    return attend(context, attention, order);
  }

 private:
  // Sorts the slots, and finds the position of each token of the stream that a query sees.
  OrtStatus* find_positions(const Tensor& index, int64_t past, int64_t positions, const Array<Slot>& order,
                            const Array<int64_t>& places) const {
    const int64_t rows = index.shape[0], width = index.shape[1], tokens = static_cast<int64_t>(places.size());
    sort(order);
    if (order.size() > 0 && (order[0].slot < 0 || order[order.size() - 1].slot >= rows * width))
      return refuse("a slot lies outside the rectangle");
    for (size_t at = 0; at < order.size(); at++) {
      const int64_t row = order[at].slot / width, last = order[at].slot % width;
      if (at + 1 < order.size() && order[at + 1].slot / width == row) continue;  // the row's last slot comes later
      if (last >= positions) return refuse("a position lies behind the tables of RoPE");
      for (int64_t position = 0; position <= last; position++) {
        const int64_t token = index.as<int64_t>()[row * width + position];
        if (token < 0 || token >= past + tokens) return refuse("an index is no token");
        if (token >= past) places[token - past] = position;
        if (token < past && token != position) return refuse("the past has to be the beginning of a text");
      }
    }
    for (const Slot& one : order)
      if (index.as<int64_t>()[one.slot] < past) return refuse("a slot lies in the past");
    return nullptr;
  }

  static void sort(const Array<Slot>& order) {
    const auto compare = [](const void* a, const void* b) {
      const int64_t first = static_cast<const Slot*>(a)->slot, second = static_cast<const Slot*>(b)->slot;
      return (first > second) - (first < second);
    };
    bool sorted = true;  // as most streams are
    for (size_t at = 1; at < order.size(); at++) sorted = sorted && order[at - 1].slot <= order[at].slot;
    if (!sorted) std::qsort(order.get(), order.size(), sizeof(Slot), compare);
  }

  OrtStatus* attend(OrtKernelContext* context, const Attention& attention, const Array<Slot>& order) const {
    const Kernels& with = *kernels();
    const int64_t queries = with.query_rows / (heads / kv_heads), count = static_cast<int64_t>(order.size());
    struct Chunk {
      int64_t first, count;
    };
    const Array<Chunk> chunks(count);
    if (!chunks) return no_memory();
    int64_t chunk_count = 0;
    for (int64_t first = 0; first < count;) {
      const int64_t row = order[first].slot / attention.width;
      int64_t end = first + 1;
      while (end < count && end - first < queries && order[end].slot / attention.width == row) end++;
      chunks[chunk_count++] = {first, end - first};
      first = end;
    }
    bool refused = false;
    RETURN_IF(parallel(context, chunk_count * kv_heads, [&](int64_t task) {
      // The last chunks of a row see the most keys; they come first.
      const Chunk& chunk = chunks[chunk_count - 1 - task / kv_heads];
      const Scratch scratch(with.attend_scratch(attention));
      if (!scratch) {
        __atomic_store_n(&refused, true, __ATOMIC_RELAXED);
        return;
      }
      with.attend(attention, order.get() + chunk.first, chunk.count, task % kv_heads, scratch.get());
    }));
    return __atomic_load_n(&refused, __ATOMIC_RELAXED) ? no_memory() : nullptr;
  }
};

// What ONNX Runtime keeps of a node.
template <typename Kernel>
struct Made : Kernel {
  static void* operator new(size_t size) noexcept { return std::malloc(size); }
  static void operator delete(void* made) { std::free(made); }
};

// An operator as ONNX Runtime reads it.
template <typename Kernel>
constexpr ort::CustomOp describe() {
  ort::CustomOp op{};
  op.version = ort::VERSION;
  op.name = [](const ort::CustomOp*) { return Kernel::NAME; };
  op.provider = [](const ort::CustomOp*) -> const char* { return "CPUExecutionProvider"; };
  op.input_type = [](const ort::CustomOp*, size_t index) { return Kernel::INPUTS[index]; };
  op.input_count = [](const ort::CustomOp*) { return count_of(Kernel::INPUTS); };
  op.output_type = [](const ort::CustomOp*, size_t index) { return Kernel::OUTPUTS[index]; };
  op.output_count = [](const ort::CustomOp*) { return count_of(Kernel::OUTPUTS); };
  op.destroy = [](void* kernel) { delete static_cast<Made<Kernel>*>(kernel); };
  op.input_characteristic = [](const ort::CustomOp*, size_t index) {
    return index < Kernel::OPTIONAL_FROM ? ort::REQUIRED : ort::OPTIONAL;
  };
  op.output_characteristic = [](const ort::CustomOp*, size_t) { return ort::REQUIRED; };
  op.input_memory = [](const ort::CustomOp*, size_t) { return 0; };
  op.variadic_input_minimum = op.variadic_output_minimum = [](const ort::CustomOp*) { return 0; };
  op.variadic_input_homogeneous = op.variadic_output_homogeneous = [](const ort::CustomOp*) { return 0; };
  op.create_v2 = [](const ort::CustomOp*, const void*, const OrtKernelInfo* info, void** kernel) -> OrtStatus* {
    Made<Kernel>* made = new Made<Kernel>;
    if (made == nullptr) return no_memory();
    if (OrtStatus* failed = made->create(info)) {
      delete made;
      return failed;
    }
    *kernel = made;
    return nullptr;
  };
  op.compute_v2 = [](void* kernel, OrtKernelContext* context) { return static_cast<Made<Kernel>*>(kernel)->compute(context); };
  return op;
}

template <typename Kernel>
OrtStatus* add(OrtCustomOpDomain* domain) {
  static constexpr ort::CustomOp op = describe<Kernel>();
  return ort::add_op(domain, &op);
}

}  // namespace
}  // namespace quoit

#if defined(_WIN32)
#define EXPORTED extern "C" __declspec(dllexport)
#else
#define EXPORTED extern "C" __attribute__((visibility("default")))
#endif

// The instruction set whose kernels run on this CPU; an empty text if there are none for it.
EXPORTED const char* quoit_kernels() {
  const quoit::Kernels* found = quoit::kernels();
  return found == nullptr ? "" : found->name;
}

// Whether the products are kernels too, and not ONNX Runtime's.
EXPORTED int quoit_products() {
  const quoit::Kernels* found = quoit::kernels();
  return found != nullptr && found->columns > 0;
}

EXPORTED OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const quoit::ort::ApiBase* base) {
  using namespace quoit;
  ort::table = base->get_api(ort::VERSION);
  static OrtCustomOpDomain* domain = nullptr;
  static Lock lock;
  const Guard guard(lock);
  if (domain == nullptr) {
    if (kernels() == nullptr) return refuse("quoit has no kernels for this CPU");
    OrtCustomOpDomain* made = nullptr;
    RETURN_IF(ort::create_domain("quoit", &made));
    RETURN_IF(add<QuantizeRows1>(made));
    RETURN_IF(add<AddNormQuantizeRows1>(made));
    RETURN_IF(add<Linear1>(made));
    RETURN_IF(add<ThreeLinears1>(made));
    RETURN_IF(add<GatedLinear1>(made));
    RETURN_IF(add<PackedAttention1>(made));
    domain = made;
  }
  return ort::add_domain(options, domain);
}
