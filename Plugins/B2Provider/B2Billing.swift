import CloudMountVFS
import Synchronization

/// Counts calls as Backblaze bills them: class A is free, B is cheap, C is dear.
///
/// Source: https://www.backblaze.com/cloud-storage/transaction-pricing
final class B2Billing: Sendable {
    private let free = Atomic(0)
    private let cheap = Atomic(0)
    private let dear = Atomic(0)

    /// - Parameter units: a listing counts once for each thousand entries that it asks for.
    func count(_ operation: String, units: Int = 1) {
        switch operation {
        case "b2_upload_file", "b2_upload_part", "b2_start_large_file", "b2_finish_large_file",
            "b2_cancel_large_file", "b2_get_upload_url", "b2_get_upload_part_url", "b2_delete_file_version",
            "b2_hide_file":
            free.add(units, ordering: .relaxed)
        case "b2_download_file_by_id", "b2_download_file_by_name", "b2_get_file_info":
            cheap.add(units, ordering: .relaxed)
        default: dear.add(units, ordering: .relaxed)
        }
    }

    var calls: [BilledCalls] {
        [
            BilledCalls(group: "class A", calls: free.load(ordering: .relaxed)),
            BilledCalls(group: "class B", calls: cheap.load(ordering: .relaxed)),
            BilledCalls(group: "class C", calls: dear.load(ordering: .relaxed)),
        ]
    }
}
