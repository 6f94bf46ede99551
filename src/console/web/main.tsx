import "./style.css"
import { render } from "preact"
import { App } from "./App.js"

const root = document.getElementById("app")!
root.textContent = ""
render(<App />, root)
