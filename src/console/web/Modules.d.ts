declare module "*.css"

declare module "*.md" {
  /** The document as HTML: the build renders it. */
  const html: string
  export default html
}
