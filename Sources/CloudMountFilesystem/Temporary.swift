import CloudMountPlatform
import CloudMountStaging
import CloudMountVFS

extension MemoryShare {
    func onPressure(_ reclaim: @escaping @Sendable (Int) -> Int) {}
}
