# The images: `docker buildx bake` for GPUs, `docker buildx bake nano` without, `docker buildx bake sbom` for what is in
# them (into out/sbom). Each base is given with its digest, which is looked up when it is updated and written down by
# whoever releases; none is invented here:
#
#   docker buildx imagetools inspect docker.io/library/python:3.11-slim-bookworm --format '{{.Manifest.Digest}}'
#   docker buildx imagetools inspect nvcr.io/nvidia/tritonserver:25.08-py3 --format '{{.Manifest.Digest}}'
#   docker buildx imagetools inspect nvcr.io/nvidia/tritonserver:26.06-vllm-python-py3 --format '{{.Manifest.Digest}}'
#
# Digests of what was built, for the chart's images.*.digest: --metadata-file out/images.json.

variable "REGISTRY" {
  default = "stepaudio"
}
variable "VERSION" {
  default = "0.1.0"
}
variable "REVISION" {
  default = "unknown"
}
variable "SOURCE" {
  default = "unknown"
}
variable "PYTHON_TAG" {
  default = "docker.io/library/python:3.11-slim-bookworm"
}
variable "PYTHON_DIGEST" {
  default = ""
  validation {
    condition     = PYTHON_DIGEST == "" ? false : length(regexall("^sha256:[0-9a-f]{64}$", PYTHON_DIGEST)) == 1
    error_message = "PYTHON_DIGEST must be the digest (sha256:...) of PYTHON_TAG; the head of docker-bake.hcl says how to look it up."
  }
}
variable "TRITON_TAG" {
  default = "nvcr.io/nvidia/tritonserver:25.08-py3"
}
variable "TRITON_DIGEST" {
  default = ""
  validation {
    condition     = TRITON_DIGEST == "" || length(regexall("^sha256:[0-9a-f]{64}$", TRITON_DIGEST)) == 1
    error_message = "TRITON_DIGEST must be the digest (sha256:...) of TRITON_TAG."
  }
}
# The language models need vLLM 0.15 or later, and were tested with 0.32. 25.08 and the rest of 2025 have an older one; of
# 26.06 a public project that builds on it says that it has 0.22.1, and NVIDIA's notes give no version. What a tag has,
# its own `pip show vllm` says.
variable "VLLM_TAG" {
  default = "nvcr.io/nvidia/tritonserver:26.06-vllm-python-py3"
}
variable "VLLM_DIGEST" {
  default = ""
  validation {
    condition     = VLLM_DIGEST == "" || length(regexall("^sha256:[0-9a-f]{64}$", VLLM_DIGEST)) == 1
    error_message = "VLLM_DIGEST must be the digest (sha256:...) of VLLM_TAG."
  }
}

# What the tokenizer's and the vocoder's plans need and the lock cannot hold, as it is resolved without GPUs: by exact
# version, for the CUDA (13) of TRITON_TAG. NVIDIA's packages fetch their libraries from NVIDIA's own index during the build.
variable "GPU_PACKAGES" {
  default = "onnxruntime-gpu==1.31.1 tensorrt-cu13==10.13.2.6"
  validation {
    condition     = length(regexall("^([a-z0-9-]+==[0-9.a-z]+( |$))*$", GPU_PACKAGES)) == 1
    error_message = "GPU_PACKAGES are names with exact versions, one space between them: name==1.2.3 name==4.5.6."
  }
}

# Without its digest a base is not named at all, and the build of its variant ends at its first step.
function "base" {
  params = [tag, digest]
  result = digest == "" ? "scratch" : "${tag}@${digest}"
}

group "default" {
  targets = ["orchestrator", "tokenizer", "lm", "tts", "vocoder"]
}
group "nano" {
  targets = ["orchestrator", "room-cpu"]
}
group "sbom" {
  targets = ["orchestrator-sbom", "room-sbom"]
}

target "common" {
  context = "."
  target  = "image"
  args = {
    PYTHON_IMAGE = base(PYTHON_TAG, PYTHON_DIGEST)
    TRITON_IMAGE = base(TRITON_TAG, TRITON_DIGEST)
    VERSION      = VERSION
    REVISION     = REVISION
    SOURCE       = SOURCE
  }
  attest = ["type=provenance,mode=max", "type=sbom"]
}

target "orchestrator" {
  inherits   = ["common"]
  dockerfile = "services/orchestrator/Dockerfile"
  tags       = ["${REGISTRY}/orchestrator:${VERSION}"]
}

target "tokenizer" {
  inherits   = ["common"]
  dockerfile = "services/tokenizer/Dockerfile"
  args = {
    GPU_PACKAGES = GPU_PACKAGES
  }
  tags       = ["${REGISTRY}/tokenizer:${VERSION}"]
}
target "vocoder" {
  inherits   = ["common"]
  dockerfile = "services/vocoder/Dockerfile"
  args = {
    GPU_PACKAGES = GPU_PACKAGES
  }
  tags       = ["${REGISTRY}/vocoder:${VERSION}"]
}
target "lm" {
  inherits   = ["common"]
  dockerfile = "services/lm/Dockerfile"
  tags       = ["${REGISTRY}/lm:${VERSION}"]
  args = {
    TRITON_IMAGE = base(VLLM_TAG, VLLM_DIGEST)
  }
}
target "tts" {
  inherits   = ["common"]
  dockerfile = "services/tts/Dockerfile"
  tags       = ["${REGISTRY}/tts:${VERSION}"]
  args = {
    TRITON_IMAGE = base(VLLM_TAG, VLLM_DIGEST)
  }
}

target "room-cpu" {
  name       = "${room}-cpu"
  inherits   = ["common"]
  matrix     = { room = ["tokenizer", "lm", "tts", "vocoder"] }
  dockerfile = "services/${room}/Dockerfile"
  tags       = ["${REGISTRY}/${room}:${VERSION}-cpu"]
  args = {
    VARIANT = "cpu"
  }
}

target "orchestrator-sbom" {
  inherits = ["orchestrator"]
  target   = "sbom"
  tags     = []
  attest   = []
  output   = ["type=local,dest=out/sbom"]
}
target "room-sbom" {
  name     = "${room}-sbom"
  inherits = ["${room}-cpu"]
  matrix   = { room = ["tokenizer", "lm", "tts", "vocoder"] }
  target   = "sbom"
  tags     = []
  attest   = []
  output   = ["type=local,dest=out/sbom"]
}
