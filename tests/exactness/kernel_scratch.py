"""Operators whose CPU kernels take scratch that the prediction leaves out, and the source that takes it.

Paths are PyTorch's, under aten/src/ATen. Of what the models and operators compared here use, all that is not named must
be predicted with all that it takes. Two things are left out wherever they happen: operands of several types are cast
one by one (TensorIterator.cpp, compute_types), and a copy that transposes goes by a block of 60 x 60 numbers
(native/Copy.cpp, copy_transpose_valid).
"""

_NUMBER = "TensorIterator.cpp, compute_types: a number given from Python is cast to the other operand's type"

KERNEL_SCRATCH = {
    **dict.fromkeys(
        (
            "aten::add",
            "aten::add_",
            "aten::div",
            "aten::eq",
            "aten::gt",
            "aten::lt",
            "aten::mul",
            "aten::mul_",
            "aten::ne",
        ),
        _NUMBER,
    ),
    "aten::dropout": "native/Dropout.cpp, _dropout_impl: the number in noise.div_(1 - p) becomes a tensor, and is cast",
    "aten::mean": "native/ReduceOps.cpp, mean_cpu_out: the number in sum_out(…).div_(elements) becomes a tensor",
    "aten::batch_norm": "native/cpu/batch_norm_kernel.cpp, batch_norm_cpu_collect_linear_and_constant_terms: two rows",
    "aten::native_batch_norm_backward": "native/Normalization.cpp, batch_norm_backward_cpu_template: by threads",
    "aten::native_layer_norm_backward": "native/cpu/layer_norm_kernel.cpp: sums over rows, [2, threads, width]",
    "aten::conv2d": "native/mkldnn/Conv.cpp: input, weight and output in oneDNN's own layouts, and its scratchpad",
    **dict.fromkeys(("aten::conv1d", "aten::conv3d", "aten::conv_transpose2d"), "native/mkldnn/Conv.cpp: as in conv2d"),
    **dict.fromkeys(
        ("aten::upsample_nearest2d", "aten::upsample_bilinear2d"),
        "native/cpu/UpSampleKernel.cpp, cpu_upsample_linear_channels_last and its like: input and output in order",
    ),
    "aten::gelu_backward": "native/Activation.cpp: gradients that do not lie as their inputs do, in oneDNN's layout",
    "aten::group_norm": "native/cpu/group_norm_kernel.cpp: sums of threads where channels lie together",
    "aten::convolution_backward": "native/mkldnn/Conv.cpp: as in conv2d",
    "aten::linear": "native/mkldnn/Matmul.cpp, mkldnn_matmul: 16-bit operands in oneDNN's own layout",
    "aten::mm": "native/mkldnn/Matmul.cpp, mkldnn_matmul: as in linear",
    "aten::lstm": "native/mkldnn/RNN.cpp, mkldnn_rnn_layer: summed biases, weights in oneDNN's layout, its scratchpad",
    "aten::mkldnn_rnn_layer_backward": "native/mkldnn/RNN.cpp: as in lstm, and missing gradients as zeros",
    "aten::embedding": "native/Embedding.cpp, embedding_symint: indices.reshape(-1) copies expanded ones",
    "aten::embedding_backward": "native/Embedding.cpp, embedding_dense_backward_cpu: indices.contiguous()",
    "aten::_embedding_bag_backward": "native/EmbeddingBag.cpp: the bag of every index, sorted indices, their counts",
    "aten::scaled_dot_product_attention": "native/cpu/FlashAttentionKernel.cpp: blocks of scores, [threads, …]; "
    "and native/transformers/attention.cpp: numbers that scale become tensors",
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward": "native/cpu/FlashAttentionKernel.cpp: as above",
}
