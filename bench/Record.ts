const body = /^\{"idempotent_key":"([0-9a-f-]{36})","order_id":(\d+),"status":"([A-Z]+)"\}$/

/** Decodes the body of a payment event, which must have exactly the contract's form. */
export const readOf = (value: string) => {
  const [, idempotentKey, order, status] = body.exec(value) ?? []
  if (idempotentKey === undefined) throw new Error(`no payment event: ${value}`)
  return { idempotentKey, order: order!, status: status! }
}
