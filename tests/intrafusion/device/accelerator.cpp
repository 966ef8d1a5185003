// An accelerator that is none: a device for torch whose memory is the host's and whose kernels are
// the CPU's, but which is as strict as CUDA about what lies where.
//
// Every operation on its tensors lands in `run`, which refuses what CUDA would refuse, lets the
// CPU's kernel work on tensors that share the memory, and hands out what comes back as tensors of
// this device. See accelerator.py, which builds and loads it.

#include <ATen/SparseTensorImpl.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/ops/_sparse_coo_tensor_unsafe.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <atomic>
#include <cstdlib>
#include <sstream>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace {

constexpr auto KIND = c10::DeviceType::PrivateUse1;
const c10::Device DEVICE(KIND, 0);
using Stack = torch::jit::Stack;

// What `accelerator_rules` was told of torch's operations, and what was counted since.
std::unordered_set<std::string> takes_numbers, cpu_only;
std::atomic<long long> bytes_to_host{0}, waits{0};

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* data = bytes ? std::malloc(bytes) : nullptr;
    return {data, data, &std::free, DEVICE};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &std::free; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};
Memory memory;

struct Guard final : c10::impl::NoOpDeviceGuardImpl<KIND> {
  c10::Device exchangeDevice(c10::Device) const override { return DEVICE; }
  c10::Device getDevice() const override { return DEVICE; }
  c10::Stream getStream(c10::Device) const noexcept override {
    return c10::Stream(c10::Stream::DEFAULT, DEVICE);
  }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return getStream(DEVICE); }
  void synchronizeDevice(c10::DeviceIndex) const override {}
};

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
};

bool is_here(const at::Tensor& tensor) {
  return tensor.defined() && tensor.device().type() == KIND;
}

void release(void* owner) {
  c10::raw::intrusive_ptr::decref(static_cast<c10::StorageImpl*>(owner));
}

// A storage on `device` of the same bytes, which keeps `storage` alive.
c10::Storage same_bytes(const c10::Storage& storage, c10::Device device) {
  auto* owner = storage.unsafeGetStorageImpl();
  c10::raw::intrusive_ptr::incref(owner);
  c10::DataPtr data(storage.mutable_data(), owner, &release, device);
  c10::Allocator* allocator = &memory;
  if (device.is_cpu()) allocator = c10::GetAllocator(c10::DeviceType::CPU);
  return {c10::Storage::use_byte_size_t(), storage.nbytes(), std::move(data), allocator, true};
}

at::Tensor with_storage(c10::Storage storage, const at::Tensor& like, c10::DispatchKey key) {
  auto tensor = at::detail::make_tensor<c10::TensorImpl>(
      std::move(storage), c10::DispatchKeySet(key), like.dtype());
  auto* impl = tensor.unsafeGetTensorImpl();
  impl->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  if (like.unsafeGetTensorImpl()->is_wrapped_number()) impl->set_wrapped_number(true);
  if (like.is_conj()) impl->_set_conj(true);
  if (like.is_neg()) impl->_set_neg(true);
  return tensor;
}

at::SparseTensorImpl* sparse(const at::Tensor& tensor) {
  return static_cast<at::SparseTensorImpl*>(tensor.unsafeGetTensorImpl());
}

// The tensors of one call, here and as the CPU sees them.
class Call {
 public:
  at::Tensor to_host(const at::Tensor& tensor) {
    if (!is_here(tensor)) return tensor;
    at::Tensor twin;
    if (tensor.is_sparse()) {
      auto* impl = sparse(tensor);
      twin = at::_sparse_coo_tensor_unsafe(
          to_host(impl->indices()), to_host(impl->values()), tensor.sizes());
      sparse(twin)->set_coalesced(impl->coalesced());
    } else {
      twin = with_storage(host_storage(tensor.storage()), tensor, c10::DispatchKey::CPU);
    }
    pairs_.emplace_back(tensor, twin);
    return twin;
  }

  c10::Storage host_storage(const c10::Storage& storage) {
    for (auto& [here, host] : storages_)
      if (here.is_alias_of(storage)) return host;
    return storages_.emplace_back(storage, same_bytes(storage, c10::DeviceType::CPU)).second;
  }

  at::Tensor from_host(const at::Tensor& tensor) {
    if (!tensor.defined() || is_here(tensor)) return tensor;
    for (auto& [here, twin] : pairs_)
      if (twin.is_same(tensor)) return here;
    if (!tensor.is_sparse())
      return with_storage(storage_here(tensor.storage()), tensor, c10::DispatchKey::PrivateUse1);
    auto* impl = sparse(tensor);
    auto result = at::detail::make_tensor<at::SparseTensorImpl>(
        c10::DispatchKeySet(c10::DispatchKey::SparsePrivateUse1), tensor.dtype());
    fill(sparse(result), impl);
    return result;
  }

  // Gives the tensors here the shapes and memory that their twins were given.
  void catch_up() {
    for (auto& [here, twin] : pairs_) {
      if (here.is_sparse()) {
        auto* impl = sparse(twin);
        bool same = from_host(impl->indices()).is_same(sparse(here)->indices()) &&
            from_host(impl->values()).is_same(sparse(here)->values());
        if (!same || here.sizes() != twin.sizes()) fill(sparse(here), impl);
        sparse(here)->set_coalesced(impl->coalesced());
        continue;
      }
      auto* impl = here.unsafeGetTensorImpl();
      auto storage = storage_here(twin.storage());
      if (!storage.is_alias_of(here.storage())) impl->set_storage_keep_dtype(storage);
      if (storage.data() != twin.storage().data()) {  // it was given room for more
        auto grown = same_bytes(twin.storage(), DEVICE);
        storage.set_nbytes(grown.nbytes());
        storage.set_data_ptr(std::move(grown.mutable_data_ptr()));
      }
      impl->set_sizes_and_strides(twin.sizes(), twin.strides(), twin.storage_offset());
    }
  }

 private:
  c10::Storage storage_here(const c10::Storage& storage) {
    for (auto& [here, host] : storages_)
      if (host.is_alias_of(storage)) return here;
    return storages_.emplace_back(same_bytes(storage, DEVICE), storage).first;
  }

  void fill(at::SparseTensorImpl* to, at::SparseTensorImpl* from) {
    to->raw_resize_(from->sparse_dim(), from->dense_dim(), from->sizes());
    to->set_indices_and_values_unsafe(from_host(from->indices()), from_host(from->values()));
    to->set_coalesced(from->coalesced());
  }

  std::vector<std::pair<at::Tensor, at::Tensor>> pairs_;
  std::vector<std::pair<c10::Storage, c10::Storage>> storages_;
};

// `value` with `change` applied to all tensors in it.
template <typename Change>
c10::IValue changed(const c10::IValue& value, const Change& change) {
  if (value.isTensor()) return change(value.toTensor());
  if (!value.isList()) return value;
  // Element by element: TorchScript's lists of optional tensors have a type of their own.
  const auto list = value.toList();
  c10::impl::GenericList result(list.elementType());
  for (const c10::IValue& each : list) result.push_back(changed(each, change));
  return result;
}

const std::unordered_set<std::string> COPIES = {
    "aten::_copy_from", "aten::_copy_from_and_resize", "aten::copy_",
    "aten::copy_sparse_to_sparse_"};
const std::unordered_set<std::string> INDEXED = {
    "aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"};
const std::unordered_set<std::string> PRODUCTS = {
    "aten::mm", "aten::bmm", "aten::addmm", "aten::addmm_", "aten::baddbmm", "aten::mv",
    "aten::addmv", "aten::convolution_overrideable"};

// Raises where CUDA would.
void check(const std::string& name, const std::string& full, const Stack& stack, size_t first) {
  TORCH_CHECK_NOT_IMPLEMENTED(!cpu_only.count(full), full, " has no kernel for CUDA");
  if (COPIES.count(name)) return;
  for (size_t at = first; at < stack.size(); ++at) {
    const c10::IValue& value = stack[at];
    TORCH_CHECK(
        !value.isGenerator() || value.toGenerator().device().type() == KIND,
        "Expected a '", DEVICE.type(), "' device type for generator but found 'cpu', in ", full);
    // Positions may lie on the CPU; CUDA brings them over.
    if (INDEXED.count(name) && at == first + 1) continue;
    changed(value, [&](const at::Tensor& tensor) {
      if (!tensor.defined()) return tensor;
      bool number = tensor.dim() == 0 && takes_numbers.count(full);
      TORCH_CHECK(
          is_here(tensor) || number,
          "Expected all tensors to be on the same device, but argument ", at - first, " of ", full,
          " is on ", tensor.device(), ", with shape ", tensor.sizes(), ", beside ", DEVICE);
      TORCH_CHECK(
          !PRODUCTS.count(name) || tensor.is_floating_point() || tensor.is_complex(),
          full, " not implemented for ", tensor.dtype(), " on CUDA");
      return tensor;
    });
  }
}

void run(const c10::OperatorHandle& op, Stack* stack) {
  const auto& schema = op.schema();
  const std::string& name = schema.name();
  std::string full = name + (schema.overload_name().empty() ? "" : "." + schema.overload_name());
  const size_t first = stack->size() - schema.arguments().size();
  check(name, full, *stack, first);
  if (name == "aten::_local_scalar_dense") ++waits;
  Call call;
  for (size_t at = first; at < stack->size(); ++at) {
    c10::IValue& value = (*stack)[at];
    if (value.isDevice()) {
      value = c10::Device(c10::DeviceType::CPU);
    } else if (value.isStorage()) {
      value = call.host_storage(value.toStorage());
    } else {
      value = changed(value, [&](const at::Tensor& tensor) { return call.to_host(tensor); });
    }
  }
  op.callBoxed(stack);
  call.catch_up();
  const size_t results = stack->size() - schema.returns().size();
  for (size_t at = results; at < stack->size(); ++at)
    (*stack)[at] = changed(
        (*stack)[at], [&](const at::Tensor& tensor) { return call.from_host(tensor); });
}

// The same by another operation's kernel, for what no CPU has under its own name.
c10::OperatorHandle operation(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "");
}

void convolve(const c10::OperatorHandle& op, Stack* stack) {
  check(op.schema().name(), op.schema().name(), *stack, stack->size() - 9);
  run(operation("aten::convolution"), stack);
}

void convolve_backward(const c10::OperatorHandle&, Stack* stack) {
  // convolution_backward wants the sizes of the bias after the weight.
  const auto outputs = (*stack)[stack->size() - 10].toTensor().size(1);
  stack->insert(stack->end() - 7, c10::IValue(std::vector<int64_t>{outputs}));
  run(operation("aten::convolution_backward"), stack);
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  if (is_here(from) && !is_here(to)) {
    bytes_to_host += static_cast<long long>(from.numel() * from.element_size());
    ++waits;
  }
  Call call;
  call.to_host(to).copy_(call.to_host(from));
  call.catch_up();
  return to;
}

std::unordered_set<std::string> lines_of(const char* text) {
  std::istringstream stream(text);
  std::unordered_set<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.insert(line);
  return lines;
}

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);
REGISTER_ALLOCATOR(KIND, &memory);

}  // namespace

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&run>());
}
TORCH_LIBRARY_IMPL(_, SparsePrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&run>());
}
TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("_copy_from", &copy_from);
  library.impl("convolution_overrideable", torch::CppFunction::makeFromBoxedFunction<&convolve>());
  library.impl(
      "convolution_backward_overrideable",
      torch::CppFunction::makeFromBoxedFunction<&convolve_backward>());
}

extern "C" {
// Names of operations, one a line: those that take numbers from the CPU as tensors without
// dimensions, those that CUDA has no kernel for, and those that have kernels of their own for
// sparse tensors. Called once, before the device is used.
void accelerator_rules(
    const char* with_numbers, const char* without_cuda, const char* with_sparse) {
  takes_numbers = lines_of(with_numbers);
  cpu_only = lines_of(without_cuda);
  static torch::Library sparse_kernels(
      torch::Library::IMPL, "aten", c10::DispatchKey::SparsePrivateUse1, __FILE__, __LINE__);
  for (const std::string& name : lines_of(with_sparse))  // else a kernel for all kinds is taken
    sparse_kernels.impl(name.c_str(), torch::CppFunction::makeFromBoxedFunction<&run>());
  at::RegisterPrivateUse1HooksInterface(new Hooks());
}
// Bytes copied from the device to the CPU so far, and how often the CPU had to wait for it.
long long accelerator_bytes_to_host() { return bytes_to_host; }
long long accelerator_waits() { return waits; }
}
