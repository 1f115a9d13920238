/// How much of the policy's deadline the calls of a task may take.
package enum CallPatience {
    /// Of 1.
    @TaskLocal package static var share = 1.0
}

extension ObjectProvider {
    /// What is under `key`, asked after a call that failed with `error`: who has waited out the deadline once does not wait it out again.
    package func headIfThere(_ key: ObjectKey, after error: VFSError) async throws(VFSError) -> ObjectInfo? {
        let share = error.code == .timedOut ? 0.25 : 1
        return try await CallPatience.$share.withValue(share) {
            await attempt { () async throws(VFSError) in try await self.headIfThere(key) }
        }.get()
    }
}
