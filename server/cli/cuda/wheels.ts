/**
 * The wheels that CUDA is set up from, on Linux x64. Their versions, sizes, licences and digests are
 * known before anything is fetched, and each wheel is held to them: who changes the version of
 * `onnxruntime-node` changes them as well (`pip download`, the wheel's METADATA, `sha256sum`).
 */

/** A wheel, and what is unpacked from it. */
export interface CudaWheel {
  readonly name: string;
  readonly version: string;
  /** As its METADATA has it. */
  readonly licence: string;
  /** To download. */
  readonly bytes: number;
  /** SHA-256 (hex) of the wheel. */
  readonly sha256: string;
  /** Entries by the names that they get. */
  readonly files: Readonly<Record<string, string>>;
  /** Bytes of these files. */
  readonly unpacked: number;
  /** The entry that says from which commit of ONNX Runtime the wheel was built. */
  readonly built?: string;
}

/** The CPython that wheels are chosen for; nothing that is unpacked depends on it. */
export const WHEEL_PYTHON = "3.12";

/** The version of ONNX Runtime that these wheels are for. */
export const CUDA_RUNTIME = "1.30.0";

const NVIDIA = "LicenseRef-NVIDIA-Proprietary";
const NVIDIA_FOLDER = "nvidia/cu13/lib";

export const CUDA_WHEELS: readonly CudaWheel[] = [
  {
    name: "onnxruntime-gpu",
    version: CUDA_RUNTIME,
    licence: "MIT License",
    bytes: 246_685_715,
    sha256: "6acc0f4b3d5ac5f2984432faa59dd8fcce6775f8b43a7140afa0f322c7a703b1",
    files: {
      "libonnxruntime_providers_shared.so": "onnxruntime/capi/libonnxruntime_providers_shared.so",
      "libonnxruntime_providers_cuda.so": "onnxruntime/capi/libonnxruntime_providers_cuda.so",
      "licences/onnxruntime-gpu.txt": "onnxruntime/LICENSE",
    },
    unpacked: 272_065_609,
    built: `onnxruntime/capi/libonnxruntime.so.${CUDA_RUNTIME}`,
  },
  {
    name: "nvidia-cuda-runtime",
    version: "13.5.37",
    licence: NVIDIA,
    bytes: 2_504_024,
    sha256: "df2b79a8852f10d1fef8c848489c49eebb5754051bf870202a862831412b179d",
    files: nvidiaFiles("nvidia_cuda_runtime-13.5.37", "nvidia-cuda-runtime", ["libcudart.so.13"]),
    unpacked: 865_982,
  },
  {
    name: "nvidia-nvjitlink",
    version: "13.5.37",
    licence: NVIDIA,
    bytes: 46_642_491,
    sha256: "280d7cb9649704145f074b8dbde500de04ce02d0872e066e20a83c17bcaa93eb",
    files: nvidiaFiles("nvidia_nvjitlink-13.5.37", "nvidia-nvjitlink", ["libnvJitLink.so.13"]),
    unpacked: 117_306_726,
  },
  {
    name: "nvidia-cublas",
    version: "13.10.0.20",
    licence: NVIDIA,
    bytes: 444_289_903,
    sha256: "dcc6d63884c53d07e267ce7e6feac17b2538cebaafec5db865736c3e28e4dc84",
    files: nvidiaFiles("nvidia_cublas-13.10.0.20", "nvidia-cublas", [
      "libcublasLt.so.13",
      "libcublas.so.13",
    ]),
    unpacked: 608_994_622,
  },
  {
    name: "nvidia-curand",
    version: "10.4.5.25",
    licence: NVIDIA,
    bytes: 77_113_015,
    sha256: "22bb226a857e5888fe6b54ae465fc4371296bcff13a35f79e19691bcf454f529",
    files: nvidiaFiles("nvidia_curand-10.4.5.25", "nvidia-curand", ["libcurand.so.10"]),
    unpacked: 104_919_558,
  },
];

function nvidiaFiles(
  info: string,
  name: string,
  libraries: readonly string[],
): Readonly<Record<string, string>> {
  return {
    ...Object.fromEntries(libraries.map((library) => [library, `${NVIDIA_FOLDER}/${library}`])),
    [`licences/${name}.txt`]: `${info}.dist-info/licenses/License.txt`,
  };
}
