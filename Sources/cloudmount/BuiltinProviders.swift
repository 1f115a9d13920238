import CloudMountVFS
import MemoryProvider

/// THE LIST: what may stand after `provider:` in `mounts.yaml`.
let builtinProviders: [ProviderDescriptor] = [
    MemoryProvider.descriptor
]
