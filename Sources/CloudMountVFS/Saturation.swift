extension Int {
    /// The sum, or the largest number where that would be more: of counts that a damaged disk or a foreign record may tell.
    package func addingSaturated(_ other: Int) -> Int {
        let (sum, isTooMuch) = addingReportingOverflow(other)
        return isTooMuch ? (other > 0 ? .max : .min) : sum
    }
}
